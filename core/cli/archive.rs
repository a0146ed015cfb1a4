//! What is done with an archive: it is listed, shown, exported and verified. Nothing of it is changed.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};

use aftercommit::adapters::archive::{ArchiveFolder, SegmentInfo};
use aftercommit::error::StoreError;
use aftercommit::event::Envelope;
use aftercommit::store::{Archive, LogEvent, Position};
use serde_json::{Value, json};

use crate::args::{self, InArchive};

/// What there is to tell of an archive.
pub(crate) enum Archived {
    Segments(Vec<SegmentInfo>),
    Events(Vec<LogEvent>),
    Exported { events: u64 },
    Wrong(Vec<StoreError>),
}

/// How many events, and about how many bytes of them, are read at once.
const EVENTS: usize = 1_000;
const BYTES: usize = 4 << 20;

/// What was done, and whether the standard output holds something else.
pub(crate) fn run(command: &args::Archive) -> Result<(Archived, bool), StoreError> {
    match command {
        args::Archive::List { archive } => Ok((Archived::Segments(ArchiveFolder::look(archive)?.list()?), false)),
        args::Archive::Verify { archive } => Ok((Archived::Wrong(ArchiveFolder::look(archive)?.verify()?), false)),
        args::Archive::Show { which, limit } => {
            let mut events = Vec::new();
            each(which, |event| {
                let has_room = events.len() < *limit;
                events.extend(has_room.then(|| event.clone()));
                Ok(has_room)
            })?;
            Ok((Archived::Events(events), false))
        }
        args::Archive::Export { which, file } if file.as_os_str() == "-" => {
            Ok((Archived::Exported { events: export(which, &mut std::io::stdout().lock())? }, true))
        }
        args::Archive::Export { which, file } => {
            let made = OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
            let mut out = BufWriter::new(made);
            let written = export(which, &mut out).and_then(|events| {
                let synced = out.flush().and_then(|()| out.get_ref().sync_all());
                synced.map(|()| events).map_err(failed)
            });
            // A part of an export is of no use, and would be in the way.
            let events = written.inspect_err(|_| drop(fs::remove_file(file)))?;
            Ok((Archived::Exported { events }, false))
        }
    }
}

fn failed(cause: std::io::Error) -> StoreError {
    StoreError::backend("write the export", cause)
}

/// Gives each event that is meant, until no more are wanted.
fn each(which: &InArchive, mut give: impl FnMut(&LogEvent) -> Result<bool, StoreError>) -> Result<(), StoreError> {
    let archive = ArchiveFolder::look(&which.archive)?;
    let mut from = Position(which.from);
    loop {
        let events = archive.read(from, EVENTS, BYTES)?;
        let Some(last) = events.last() else { return Ok(()) };
        from = last.position.next();
        for event in &events {
            let is_meant = which.event.as_ref().is_none_or(|name| *name == event.envelope.header.name);
            if is_meant && !give(event)? {
                return Ok(());
            }
        }
    }
}

fn export(which: &InArchive, out: &mut dyn Write) -> Result<u64, StoreError> {
    let mut events = 0;
    each(which, |LogEvent { position, envelope }| {
        let mut line = header(*position, envelope);
        line["body"] = serde_json::from_slice(&envelope.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&envelope.body).into_owned()));
        events += 1;
        writeln!(out, "{line}").map(|()| true).map_err(failed)
    })?;
    out.flush().map_err(failed)?;
    Ok(events)
}

fn header(position: Position, envelope: &Envelope) -> Value {
    let header = &envelope.header;
    json!({
        "position": position, "event": header.name, "version": header.version, "id": header.metadata.id.to_string(),
        "time": header.metadata.time, "key": header.key.as_ref().map(|key| key.escape_ascii().to_string()),
    })
}

pub(crate) fn object(archived: &Archived) -> Value {
    match archived {
        Archived::Segments(segments) => json!({ "segments": segments }),
        Archived::Events(events) => {
            let events = events.iter().map(|event| header(event.position, &event.envelope));
            json!({ "events": events.collect::<Vec<_>>() })
        }
        Archived::Exported { events } => json!({ "done": "exported", "events": events }),
        Archived::Wrong(wrong) => {
            let findings: Vec<_> = wrong.iter().map(ToString::to_string).collect();
            json!({ "findings": findings, "whole": wrong.is_empty() })
        }
    }
}

pub(crate) fn table(archived: &Archived) -> String {
    match archived {
        Archived::Segments(segments) => {
            let mut text = format!("{:>12} {:>12} {:>10} {:>12}  SEGMENT\n", "FROM", "UP TO", "EVENTS", "BYTES");
            for one in segments {
                let last = one.end.0.saturating_sub(1);
                let gone = if one.is_whole { "" } else { "  (some had been pruned before)" };
                let (first, events, bytes, file) = (one.first.0, one.events, one.bytes, &one.file);
                text.push_str(&format!("{first:>12} {last:>12} {events:>10} {bytes:>12}  {file}{gone}\n"));
            }
            text
        }
        Archived::Events(events) => {
            let mut text = format!("{:>12} {:<36} EVENT\n", "POSITION", "ID");
            for LogEvent { position, envelope } in events {
                let header = &envelope.header;
                text.push_str(&format!("{:>12} {:<36} {}\n", position.0, header.metadata.id, header.name));
            }
            text
        }
        Archived::Exported { events } => format!("exported {events} events\n"),
        Archived::Wrong(wrong) if wrong.is_empty() => "whole\n".to_owned(),
        Archived::Wrong(wrong) => wrong.iter().map(|error| format!("{error}\n")).collect(),
    }
}
