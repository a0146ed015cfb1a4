//! What is done: the library's verbs on a folder.

mod publications;

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aftercommit::adapters::Kind;
use aftercommit::clock::Timestamp;
use aftercommit::error::StoreError;
use aftercommit::publication::{Asked, Overview, Page, Story};
use aftercommit::store::embedded::copy::Copied;
use aftercommit::store::embedded::verify::Report;
use aftercommit::store::embedded::{EmbeddedStore, stream::Streamed};
use aftercommit::store::{Erasure, Parked, Paused, Store};
use uuid::Uuid;

use crate::archive::{self, Archived};
use crate::args::{Args, Command, Engine};

/// What was done, and whether the store it was done to is whole.
pub(crate) struct Done {
    pub(crate) what: What,
    pub(crate) is_whole: bool,
    /// Whether the standard output holds something else.
    pub(crate) aside: bool,
}

/// What there is to tell.
pub(crate) enum What {
    Contents(Kind, Report),
    Parked(Vec<Parked>),
    Verified(Report),
    Copied { verb: &'static str, into: PathBuf, copied: Copied, report: Option<Report> },
    TakenBack(PathBuf),
    Streamed { verb: &'static str, streamed: Streamed },
    Erased(Vec<(Uuid, Erasure)>),
    Listed { page: Page, now: Timestamp },
    Story { story: Story, now: Timestamp },
    Stats { overview: Overview, now: Timestamp },
    Asked(Asked),
    Discarded(u64),
    Paused { listener: String, before: Option<Paused>, paused: bool },
    Archive(Archived),
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds nothing of it.
    #[error("{0}")]
    Nothing(String),
}

pub(crate) fn run(args: &Args) -> Result<Done, Failure> {
    let wait = Duration::from_secs(args.wait);
    let done = |what| Ok(Done { what, is_whole: true, aside: false });
    match &args.command {
        Command::Show { store, event: Some(event) } => done(publications::story(store, *event, wait)?),
        Command::List { store, states, which, limit, after } => {
            done(publications::list(store, which, states, after.as_ref(), *limit, wait)?)
        }
        Command::Stats { store } => done(publications::stats(store, wait)?),
        Command::Replay { store, which } => done(publications::replay(store, &which.which, wait)?),
        Command::Discard { store, which, reason } => done(publications::discard(store, &which.which, reason, wait)?),
        Command::Pause { store, listener, reason } => done(publications::pause(store, listener, Some(reason), wait)?),
        Command::Resume { store, listener } => done(publications::pause(store, listener, None, wait)?),
        Command::Show { store, event: None } => {
            let kind = Kind::of(store)?;
            let report = EmbeddedStore::verify_engine(kind.engine(store, wait)?, false)?;
            let is_whole = report.is_whole();
            Ok(Done { what: What::Contents(kind, report), is_whole, aside: false })
        }
        Command::Parked { store, listener } => {
            let mut parked = EmbeddedStore::parked_in(Kind::of(store)?.engine(store, wait)?)?;
            parked.retain(|one| listener.as_ref().is_none_or(|listener| *listener == one.listener));
            done(What::Parked(parked))
        }
        Command::Verify { store, repair } => {
            let report = EmbeddedStore::verify_engine(Kind::of(store)?.engine(store, wait)?, *repair)?;
            let is_whole = report.is_whole();
            Ok(Done { what: What::Verified(report), is_whole, aside: false })
        }
        Command::Backup { store, into, engine } => {
            let copied = copy(store, into, *engine, wait, EmbeddedStore::copy_engine)?;
            done(What::Copied { verb: "backed up", into: into.clone(), copied, report: None })
        }
        Command::Restore { backup, into, engine } => {
            let copied = copy(backup, into, *engine, wait, EmbeddedStore::copy_engine)?;
            // The copier lets the folder go a little later.
            let patient = wait.max(Duration::from_secs(10));
            let report = EmbeddedStore::verify_engine(Kind::of(into)?.engine(into, patient)?, false)?;
            let is_whole = report.is_whole();
            let what = What::Copied { verb: "restored", into: into.clone(), copied, report: Some(report) };
            Ok(Done { what, is_whole, aside: false })
        }
        Command::Move { store, into, engine } => {
            let copied = copy(store, into, *engine, wait, EmbeddedStore::move_engine)?;
            done(What::Copied { verb: "moved", into: into.clone(), copied, report: None })
        }
        Command::TakeBack { store } => {
            EmbeddedStore::forget_move(&*Kind::of(store)?.engine(store, wait)?)?;
            done(What::TakenBack(store.clone()))
        }
        Command::Export { store, file } => Ok(export(store, file, wait)?),
        Command::Import { file, into, engine } => {
            let mut input: Box<dyn Read> = match file.as_os_str() == "-" {
                true => Box::new(std::io::stdin().lock()),
                false => Box::new(BufReader::new(File::open(file).map_err(|cause| failed("open the export", cause))?)),
            };
            let streamed = EmbeddedStore::import_engine(&mut *input, kind(*engine).target(into, wait)?)?;
            done(What::Streamed { verb: "imported", streamed })
        }
        Command::Archive(command) => {
            let (archived, aside) = archive::run(command)?;
            let is_whole = !matches!(&archived, Archived::Wrong(wrong) if !wrong.is_empty());
            Ok(Done { what: What::Archive(archived), is_whole, aside })
        }
        Command::Erase { store, events } => {
            let store = Kind::of(store)?.open(store, wait)?;
            let erased = events.iter().map(|id| Ok((*id, erase(&store, *id)?))).collect::<Result<_, StoreError>>()?;
            futures::executor::block_on(store.close())?;
            done(What::Erased(erased))
        }
    }
}

fn kind(engine: Engine) -> Kind {
    match engine {
        Engine::Sled => Kind::Sled,
        Engine::Redb => Kind::Redb,
    }
}

fn failed(action: &'static str, cause: std::io::Error) -> StoreError {
    StoreError::backend(action, cause)
}

type Copy = fn(
    &dyn aftercommit::store::embedded::Engine,
    aftercommit::store::embedded::copy::Target,
) -> Result<Copied, StoreError>;

fn copy(from: &Path, into: &Path, engine: Option<Engine>, wait: Duration, copy: Copy) -> Result<Copied, StoreError> {
    let source = Kind::of(from)?;
    let engine = engine.map_or(source, kind);
    let source = source.engine(from, wait)?;
    copy(&*source, engine.target(into, wait)?)
}

fn export(store: &Path, file: &Path, wait: Duration) -> Result<Done, StoreError> {
    let engine = Kind::of(store)?.engine(store, wait)?;
    if file.as_os_str() == "-" {
        let streamed = EmbeddedStore::export_engine(engine, &mut std::io::stdout().lock())?;
        return Ok(Done { what: What::Streamed { verb: "exported", streamed }, is_whole: true, aside: true });
    }
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let made = made.map_err(|cause| failed("make the export's file", cause))?;
    let mut out = BufWriter::new(made);
    let written = EmbeddedStore::export_engine(engine, &mut out).and_then(|streamed| {
        let synced = out.flush().and_then(|()| out.get_ref().sync_all());
        synced.map(|()| streamed).map_err(|cause| failed("write the export", cause))
    });
    // A part of an export is of no use, and would be in the way.
    let streamed = written.inspect_err(|_| drop(fs::remove_file(file)))?;
    Ok(Done { what: What::Streamed { verb: "exported", streamed }, is_whole: true, aside: false })
}

fn erase(store: &EmbeddedStore, id: Uuid) -> Result<Erasure, StoreError> {
    match store.find_event(id)? {
        Some(position) => futures::executor::block_on(store.erase(position)),
        None => Ok(Erasure::NotStored),
    }
}
