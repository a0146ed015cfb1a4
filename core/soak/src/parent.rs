//! Starts the shop, kills it, starts it again; and judges what its lives say.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::listeners::LANES;
use crate::options::Options;
use crate::report::{Line, Sample};
use crate::table::{self, Table};

/// How long the last life may take to work everything off.
const PATIENCE: Duration = Duration::from_secs(300);
/// Shorter runs say nothing about growth.
const LONG_ENOUGH: Duration = Duration::from_secs(120);

/// What was seen so far.
struct Run {
    began: Instant,
    /// How many orders of each lane were acknowledged.
    acknowledged: Vec<u64>,
    table: Table,
    every: Duration,
    last: Sample,
    lives: usize,
    kills: usize,
    most_parked: u64,
    wrong: Vec<String>,
    audited: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match soak(options) {
        Ok(run) => run.judge(options),
        Err(error) => {
            eprintln!("the soak itself failed: {error}");
            ExitCode::from(2)
        }
    }
}

fn soak(options: &Options) -> std::io::Result<Run> {
    fastrand::seed(options.seed);
    std::fs::create_dir_all(&options.folder)?;
    let mut run = Run {
        began: Instant::now(),
        acknowledged: vec![0; LANES as usize],
        table: Table::default(),
        every: options.time / 20,
        last: Sample::default(),
        lives: 0,
        kills: 0,
        most_parked: 0,
        wrong: Vec::new(),
        audited: false,
    };
    println!(
        "{} for {} s, {} orders a second, seed {}",
        options.store.name(),
        options.time.as_secs(),
        options.rate,
        options.seed
    );
    Table::head();
    while run.began.elapsed() < options.time && run.wrong.is_empty() {
        let left = options.time.saturating_sub(run.began.elapsed());
        run.life(options, length(options.time).min(left))?;
    }
    run.finish(options)?;
    Ok(run)
}

/// How long a life lasts: mostly short ones, now and then one long enough to see its memory grow.
fn length(time: Duration) -> Duration {
    let share = if fastrand::u8(..8) == 0 { 0.12 } else { 0.004 + 0.02 * fastrand::f64() };
    time.mul_f64(share).max(Duration::from_millis(400))
}

impl Run {
    /// A life that is killed, or now and then ended in good order.
    fn life(&mut self, options: &Options, length: Duration) -> std::io::Result<()> {
        let (mut child, lines) = self.begin(options, false)?;
        let end = Instant::now() + length;
        self.listen(&lines, end);
        if fastrand::u8(..5) == 0 {
            drop(child.stdin.take());
            self.listen(&lines, Instant::now() + PATIENCE);
            let status = child.wait()?;
            if !status.success() {
                self.wrong.push(format!("a life that was told to end did so with {status}"));
            }
        } else {
            self.kills += 1;
            child.kill()?;
            child.wait()?;
        }
        // What it still said is heard to the end.
        self.listen(&lines, Instant::now() + PATIENCE);
        Ok(())
    }

    fn finish(&mut self, options: &Options) -> std::io::Result<()> {
        let (mut child, lines) = self.begin(options, true)?;
        self.listen(&lines, Instant::now() + PATIENCE);
        if !self.audited {
            child.kill()?;
            self.wrong.push("the last life did not work everything off".to_owned());
        }
        child.wait()?;
        table::row(self.began.elapsed(), self.lives, self.last);
        Ok(())
    }

    fn begin(&mut self, options: &Options, last: bool) -> std::io::Result<(Child, Receiver<Line>)> {
        self.lives += 1;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--shop", "--store", options.store.name(), "--rate", &options.rate.to_string()]);
        command.args(["--seed", &fastrand::u64(..).to_string()]).arg("--folder").arg(&options.folder);
        if last {
            command.arg("--last");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or_else(|| std::io::Error::other("the child has no output"))?;
        Ok((child, reader(out)))
    }

    /// Hears what the child says until `end`, or until it says no more.
    fn listen(&mut self, lines: &Receiver<Line>, end: Instant) {
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.hear(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn hear(&mut self, line: Line) {
        match line {
            Line::Found { lane, placed } => {
                let acknowledged = self.acknowledged[lane as usize];
                if placed < acknowledged {
                    self.wrong
                        .push(format!("{acknowledged} orders of lane {lane} were acknowledged, {placed} are there"));
                }
            }
            Line::Acknowledged { lane, placed } => self.acknowledged[lane as usize] = placed,
            Line::Sample(sample) => {
                self.last = sample;
                self.most_parked = self.most_parked.max(sample.parked);
                self.table.add(self.began.elapsed(), self.lives, sample, self.every);
            }
            Line::Wrong(what) => self.wrong.push(what),
            Line::Audited => self.audited = true,
        }
    }

    fn judge(mut self, options: &Options) -> ExitCode {
        let Sample { placed, accounted, .. } = self.last;
        println!(
            "{} lives, {} of them killed; {placed} events to 5 listeners, {accounted} accounted for once by each; at most {} parked at once",
            self.lives, self.kills, self.most_parked
        );
        if options.time >= LONG_ENOUGH {
            self.wrong.extend(self.table.grown(options.time));
        } else {
            println!("too short to judge growth");
        }
        if placed == 0 || placed != accounted {
            self.wrong.push(format!("{placed} events were placed, {accounted} accounted for"));
        }
        if self.wrong.is_empty() {
            println!("nothing is violated");
            tidy(&options.folder);
            return ExitCode::SUCCESS;
        }
        self.wrong.iter().for_each(|what| println!("VIOLATED: {what}"));
        println!("the store is kept in {}", options.folder.display());
        ExitCode::FAILURE
    }
}

/// Reads the child's lines on a thread of its own; one that a kill has cut is none.
fn reader(out: ChildStdout) -> Receiver<Line> {
    let (told, heard) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Ok(line) = line.parse()
                && told.send(line).is_err()
            {
                return;
            }
        }
    });
    heard
}

/// Only the store, in case the folder is somebody's.
fn tidy(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder.join("store"));
    let _ = std::fs::remove_dir(folder);
}
