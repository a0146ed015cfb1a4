//! Processes that are killed, or run out of disk, while they commit: what was acknowledged is there afterwards.
//!
//! The children are this test binary itself, told by an environment variable what to do.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use aftercommit::store::{CommitError, CommitRequest, Direction, Durability, Store};

use crate::place::*;

const ROLE: &str = "AFTERCOMMIT_TEST_CHILD";
const PATH: &str = "AFTERCOMMIT_TEST_PATH";
const ENGINE: &str = "AFTERCOMMIT_TEST_ENGINE";

/// What a child does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Child {
    /// Opens the store and waits to be killed.
    Hold,
    /// Commits, and says each number once it is acknowledged.
    Commit,
    /// The same with little room on the disk.
    FillDisk,
    /// Opens the store with so much room for any one file, and says what came of it.
    #[cfg(target_os = "linux")]
    Open {
        /// In blocks of 512 or 1,024 bytes, as the shell counts them.
        room: u32,
    },
}

impl Child {
    /// The room it has for any one file, if it is bounded.
    fn room(self) -> Option<u32> {
        match self {
            Child::Hold | Child::Commit => None,
            // Some 24 or 48 MiB.
            Child::FillDisk => Some(48_000),
            #[cfg(target_os = "linux")]
            Child::Open { room } => Some(room),
        }
    }
}

pub(crate) struct Running {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line that the child says.
    pub(crate) fn line(&mut self) -> String {
        // The first stands behind what the test runner says.
        self.lines
            .find_map(|line| line.expect("reads").split_once("> ").map(|(_, said)| said.to_owned()))
            .unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("kills");
        self.process.wait().expect("ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn child<D: Disk>(role: Child, path: &Path) -> Running {
    let this = std::env::current_exe().expect("knows itself");
    let mut command = match role.room() {
        Some(room) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {room}; exec \"$0\" \"$@\"")]).arg(this);
            shell
        }
        None => Command::new(this),
    };
    let mut process = command
        .args(["crash::what_a_child_does", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{role:?}"))
        .env(PATH, path)
        .env(ENGINE, D::ENGINE)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    Running { process, lines }
}

/// The children's body; in an ordinary run there is nothing for it to do.
#[tokio::test]
async fn what_a_child_does() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = std::env::var(PATH).expect("a path");
    let open = if std::env::var(ENGINE).as_deref() == Ok(OnRedb::ENGINE) { OnRedb::at } else { OnSled::at };
    let store = match open(path.as_ref()) {
        Ok(store) => store,
        Err(error) if role.starts_with("Open") => return println!("> {}", with_causes(&error)),
        Err(error) => panic!("{error:?}"),
    };
    println!("> open");
    match &*role {
        open if open.starts_with("Open") => {}
        "Hold" => std::future::pending().await,
        "Commit" => commit_for_ever(&*store).await,
        _ => fill_the_disk(&*store).await,
    }
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Each unit puts a row, counts, publishes an event and settles the one before: all of it, or nothing.
pub(crate) async fn unit(store: &dyn Store, number: u64) -> Result<(), CommitError> {
    let mut unit = begin(store).await;
    let rows = unit.rows().expect("rows");
    rows.put(&ROWS, number.to_be_bytes().to_vec(), vec![number as u8; 3_000]).expect("puts");
    rows.add(&OTHER, b"count".to_vec(), 1, None).expect("adds");
    let settlements = match number {
        0 => vec![start("l", 1)],
        _ => vec![done("l", number)],
    };
    let events = vec![logged(number.to_be_bytes())];
    unit.commit(CommitRequest { durability: Durability::Flush, events, settlements }).await.map(drop)
}

async fn commit_for_ever(store: &dyn Store) {
    for number in 0.. {
        unit(store, number).await.expect("commits");
        println!("> {number}");
    }
}

async fn fill_the_disk(store: &dyn Store) {
    for number in 0.. {
        match unit(store, number).await {
            Ok(()) => println!("> {number}"),
            Err(CommitError::InDoubt(_)) => {
                assert!(store.poisoned().is_some());
                assert!(store.begin().await.is_err());
                println!("> in doubt");
                return;
            }
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// How many units are there; each of them whole, and none without those before it.
pub(crate) async fn units_found(store: &dyn Store) -> u64 {
    let mut rows = store.reader().expect("reader");
    let all =
        rows.scan(&ROWS, (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded), Direction::Forward, usize::MAX);
    let all = all.expect("scans");
    let count = all.len() as u64;
    for (number, (key, value)) in (0..).zip(&all) {
        assert_eq!((&key[..], &value[..]), (&u64::to_be_bytes(number)[..], &[number as u8; 3_000][..]));
    }
    let counted = rows
        .get(&OTHER, b"count")
        .expect("reads")
        .map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes")));
    assert_eq!(counted, count);
    assert_eq!(positions(store).await, (1..=count).collect::<Vec<_>>());
    if count > 0 {
        assert_eq!(store.cursors().await.expect("reads")[0].1.low(), count);
    }
    count
}

on_every_disk! {
    a_kill_while_committing_loses_nothing_that_was_acknowledged
    a_full_disk_leaves_the_last_group_in_doubt_and_everything_before_it_stored
}

async fn a_kill_while_committing_loses_nothing_that_was_acknowledged<D: Disk>() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..8 {
        let root = tempfile::tempdir().expect("a folder");
        let mut running = child::<D>(Child::Commit, root.path());
        assert_eq!(running.line(), "open");
        let upto = random.u64(0..300);
        let mut acknowledged = 0;
        while acknowledged < upto {
            acknowledged = running.line().parse::<u64>().expect("a number") + 1;
        }
        running.kill();
        let store = D::at(root.path()).expect("opens");
        assert!(!store.was_clean());
        let found = units_found(&*store).await;
        assert!(found >= acknowledged, "{found} of {acknowledged}");
        unit(&*store, found).await.expect("goes on");
    }
}

async fn a_full_disk_leaves_the_last_group_in_doubt_and_everything_before_it_stored<D: Disk>() {
    let root = tempfile::tempdir().expect("a folder");
    let mut running = child::<D>(Child::FillDisk, root.path());
    assert_eq!(running.line(), "open");
    let mut acknowledged = 0;
    loop {
        match &*running.line() {
            "in doubt" => break,
            number => acknowledged = number.parse::<u64>().expect("a number") + 1,
        }
    }
    drop(running);
    assert!(acknowledged > 100);
    let store = D::at(root.path()).expect("opens");
    let found = units_found(&*store).await;
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
    unit(&*store, found).await.expect("goes on");
}
