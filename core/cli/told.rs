//! What is printed: tables for people, or one JSON object.

mod publications;

use std::error::Error;
use std::io::Write;

use aftercommit::store::embedded::verify::{Contents, Report};
use aftercommit::store::{Erasure, Parked};
use serde_json::{Value, json};

use crate::archive;
use crate::args::Format;
use crate::commands::{Done, What};

/// Prints what was done.
pub(crate) fn tell(done: &Done, format: Format) {
    let text = match format {
        Format::Table => table(&done.what),
        Format::Json => format!("{:#}\n", object(&done.what)),
    };
    // Who reads only the beginning does not want the rest.
    let _ = match done.aside {
        true => std::io::stderr().write_all(text.as_bytes()),
        false => std::io::stdout().write_all(text.as_bytes()),
    };
}

/// Prints why it was not done.
pub(crate) fn fail(error: &dyn Error, advice: Option<&str>, exit: u8, format: Format) {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let text = match format {
        Format::Table => {
            let causes: String = causes.iter().map(|cause| format!(": {cause}")).collect();
            let advice = advice.map_or_else(String::new, |advice| format!("\n{advice}"));
            format!("aftercommit: {error}{causes}{advice}\n")
        }
        Format::Json => {
            let said = json!({ "error": error.to_string(), "causes": causes, "advice": advice, "exit": exit });
            format!("{said:#}\n")
        }
    };
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn object(what: &What) -> Value {
    match what {
        What::Contents(kind, report) => {
            json!({ "engine": kind.name(), "contents": report.contents, "whole": report.is_whole() })
        }
        What::Parked(parked) => json!({ "parked": parked.iter().map(parked_one).collect::<Vec<_>>() }),
        What::Verified(report) => json!({ "report": report, "whole": report.is_whole() }),
        What::Copied { verb, into, copied, report } => {
            json!({ "done": verb, "into": into, "copied": copied, "report": report })
        }
        What::TakenBack(store) => json!({ "done": "taken back", "store": store }),
        What::Streamed { verb, streamed } => json!({ "done": verb, "streamed": streamed }),
        What::Listed { page, .. } => publications::page_object(page),
        What::Story { story, .. } => publications::story_object(story),
        What::Stats { overview, .. } => publications::stats_object(overview),
        What::Asked(asked) => publications::asked_object(asked),
        What::Discarded(discarded) => json!({ "discarded": discarded, "takes_effect": "at once" }),
        What::Paused { listener, before, paused } => publications::paused_object(listener, before.as_ref(), *paused),
        What::Archive(archived) => archive::object(archived),
        What::Erased(erased) => {
            let events = erased.iter().map(|(id, erasure)| json!({ "id": id.to_string(), "erased": erasure }));
            json!({ "events": events.collect::<Vec<_>>() })
        }
    }
}

fn parked_one(one: &Parked) -> Value {
    let header = &one.envelope.header;
    json!({
        "listener": one.listener, "position": one.position, "event": header.name, "id": header.metadata.id.to_string(),
        "attempts": one.attempts, "parked_at": one.parked_at, "cause": one.cause.to_string(),
    })
}

fn table(what: &What) -> String {
    match what {
        What::Archive(archived) => archive::table(archived),
        What::Contents(kind, report) => {
            let mut text = format!("a store on {}\n\n", kind.name());
            text.push_str(&contents(&report.contents));
            if !report.is_whole() {
                text.push_str("\nit is not whole: `aftercommit verify` says why\n");
            }
            text
        }
        What::Parked(parked) => {
            let rows = parked.iter().map(|one| {
                let header = &one.envelope.header;
                let (id, cause) = (header.metadata.id.to_string(), one.cause.to_string());
                vec![
                    one.listener.clone(),
                    one.position.0.to_string(),
                    header.name.clone(),
                    id,
                    one.attempts.to_string(),
                    cause,
                ]
            });
            grid(&["LISTENER", "POSITION", "EVENT", "ID", "ATTEMPTS", "CAUSE"], rows.collect())
        }
        What::Verified(report) => verified(report),
        What::Copied { verb, into, copied, report } => {
            let mut text =
                format!("{verb}: {} entries, {} bytes, into {}\n", copied.entries, copied.bytes, into.display());
            if let Some(report) = report {
                text.push_str(&verified(report));
            }
            text
        }
        What::TakenBack(store) => format!("{} can be opened again\n", store.display()),
        What::Streamed { verb, streamed } => {
            let (records, rows, events) = (streamed.records, streamed.rows, streamed.events);
            format!("{verb}: {records} records, {rows} rows, {events} events, {} bytes\n", streamed.bytes)
        }
        What::Listed { page, now } => publications::page_table(page, *now),
        What::Story { story, now } => publications::story_table(story, *now),
        What::Stats { overview, now } => publications::stats_table(overview, *now),
        What::Asked(asked) => publications::asked_table(asked),
        What::Discarded(discarded) => format!("{discarded} dead letters are gone; a note of each stays\n"),
        What::Paused { listener, before, paused } => publications::paused_table(listener, before.as_ref(), *paused),
        What::Erased(erased) => {
            let rows = erased.iter().map(|(id, erasure)| {
                let said = match erasure {
                    Erasure::Done { parked: 0 } => "erased".to_owned(),
                    Erasure::Done { parked } => format!("erased, and {parked} parked"),
                    Erasure::Before => "was erased before".to_owned(),
                    Erasure::NotStored => "is not stored".to_owned(),
                };
                vec![id.to_string(), said]
            });
            grid(&["EVENT", ""], rows.collect())
        }
    }
}

fn verified(report: &Report) -> String {
    format!("{report}\n")
}

fn contents(contents: &Contents) -> String {
    let tables = contents
        .tables
        .iter()
        .map(|one| vec![one.name.clone(), one.rows.to_string(), one.bytes.to_string(), one.shape.clone()]);
    let listeners = contents.listeners.iter().map(|one| {
        let numbers = [one.low, one.behind, one.waiting, one.parked];
        [vec![one.id.clone()], numbers.iter().map(u64::to_string).collect()].concat()
    });
    let log = &contents.log;
    let first = log.first.map_or_else(|| "-".to_owned(), |first| first.to_string());
    let numbers = [log.next, log.events, log.erased, log.bytes];
    let log = [vec![first], numbers.iter().map(u64::to_string).collect()].concat();
    [
        grid(&["TABLE", "ROWS", "BYTES", "SHAPE"], tables.collect()),
        grid(&["LOG FROM", "TO", "EVENTS", "ERASED", "BYTES"], vec![log]),
        grid(&["LISTENER", "SETTLED TO", "BEHIND", "WAITING", "PARKED"], listeners.collect()),
        format!("{} scheduled events, {} remembered ids\n", contents.scheduled, contents.remembered),
        format!("{} entries, {} bytes, {} large values\n", contents.entries, contents.bytes, contents.large_values),
    ]
    .join("\n")
}

/// Rows in columns; numbers to the right.
fn grid(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).chain([head[at].len()]).max().unwrap_or(0))
        .collect();
    let is_number = |at: usize| !rows.is_empty() && rows.iter().all(|row| row[at].parse::<u64>().is_ok());
    let numbers: Vec<bool> = (0..head.len()).map(is_number).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).zip(&numbers).map(|((cell, width), number)| match number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(head.to_vec())).chain(body).collect()
}
