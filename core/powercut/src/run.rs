//! A whole run: records lives of every workload, cuts them, audits what stands there, and lives on after some of the cuts.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Failed;
use crate::audit::{Findings, Violation};
use crate::auditor::{Auditor, Request};
use crate::cut::{Cut, SHAPES, Settled, Shape, Syncs};
use crate::life::Life;
use crate::record::{Part, Recorder, STORE};
use crate::store::Subject;
use crate::trace::Moment;
use crate::workload::Workload;

/// What a run tries.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The store.
    pub subject: Subject,
    /// What its lives do.
    pub workloads: Vec<&'static Workload>,
    /// How many states of each workload.
    pub states: usize,
    /// What is drawn.
    pub seed: u64,
    /// Which syncs are believed.
    pub syncs: Syncs,
    /// How many states are rebuilt and audited at once.
    pub threads: usize,
    /// This package's program.
    pub program: PathBuf,
    /// Where to work; best in memory.
    pub work: PathBuf,
    /// Where lives with violations are kept.
    pub keep: PathBuf,
}

/// What a run of one workload came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Its name.
    pub workload: &'static str,
    /// Moments at which a life was cut.
    pub cuts: usize,
    /// States that were audited.
    pub states: usize,
    /// Of these, the ones after a second cut.
    pub after_second_cut: usize,
    /// Bytes written in the first life.
    pub written: u64,
    /// The length of its longest file, in bytes.
    pub longest: u64,
    /// The most bytes that were written to a file between two of its syncs.
    pub widest_window: u64,
    /// States with a violation of each kind.
    pub violations: BTreeMap<Violation, usize>,
    /// States with any.
    pub violated: usize,
    /// By shape: states, and those with a violation.
    pub shapes: BTreeMap<&'static str, (usize, usize)>,
    /// The first few that failed.
    pub failing: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Of four states one comes after a second cut.
const SECOND_SHARE: usize = 4;

/// How many states of a second life are audited at most.
const SECOND_STATES: usize = 40;

/// Runs `plan`, and tells `each` what every workload came to.
///
/// # Errors
/// If something but the store fails.
pub fn run(plan: &Plan, mut each: impl FnMut(&Summary)) -> Result<Vec<Summary>, Failed> {
    fs::create_dir_all(&plan.work).map_err(Failed::io("make the folder to work in", &plan.work))?;
    let recorder = Recorder::build(&plan.work, &plan.program)?;
    let mut summaries = Vec::new();
    for workload in &plan.workloads {
        let summary = Run { plan, workload, recorder: &recorder }.run()?;
        each(&summary);
        summaries.push(summary);
    }
    Ok(summaries)
}

/// The name of a state, by which it can be rebuilt.
#[derive(Debug, Clone)]
pub(crate) struct StateName {
    pub(crate) workload: String,
    pub(crate) life: String,
    pub(crate) moment: Moment,
    pub(crate) shape: Shape,
    pub(crate) roll: u64,
}

impl std::fmt::Display for StateName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape = shape_name(self.shape);
        write!(out, "{}/{}/{}/{shape}/{}", self.workload, self.life, self.moment, self.roll)
    }
}

impl StateName {
    /// Reads what a run printed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let [workload, life, moment, shape, roll] = text.split('/').collect::<Vec<_>>()[..] else { return None };
        Some(Self {
            workload: workload.to_owned(),
            life: life.to_owned(),
            moment: moment.parse().ok()?,
            shape: SHAPES.iter().find(|(_, name, _)| *name == shape)?.0,
            roll: roll.parse().ok()?,
        })
    }
}

fn shape_name(shape: Shape) -> &'static str {
    SHAPES.iter().find(|(known, ..)| *known == shape).map_or("", |(_, name, _)| name)
}

struct Run<'p> {
    plan: &'p Plan,
    workload: &'static Workload,
    recorder: &'p Recorder,
}

/// What the threads of a run share.
struct Shared {
    summary: Mutex<Summary>,
    /// States that were tried already.
    tried: Mutex<HashSet<u64>>,
}

impl Run<'_> {
    fn run(&self) -> Result<Summary, Failed> {
        let begun = Instant::now();
        let plan = self.plan;
        let home = plan.work.join(self.workload.name);
        clear(&home)?;
        let about = (plan.subject, self.workload, Part::First);
        let mut first = Life::record(self.recorder, about, &home.join("first"), Default::default(), |_| Ok(()))?;
        if plan.subject.is_bare() {
            // What its commits lose is asked, and not what a creation does that nobody syncs.
            first.from = first.opened();
        }
        let shared = Shared { summary: Mutex::default(), tried: Mutex::default() };
        let second_states = plan.states / SECOND_SHARE;
        let second_lives = second_states.div_ceil(SECOND_STATES);
        let first_states = plan.states - second_states;
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..plan.threads.max(1))
                .map(|thread| {
                    let (first, shared, home, next) = (&first, &shared, &home, &next);
                    scope.spawn(move || -> Result<(), Failed> {
                        let mut hand = Hand::new(self, home, thread);
                        let states = first_states * (thread + 1) / plan.threads - first_states * thread / plan.threads;
                        hand.attack(first, states, shared)?;
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= second_lives {
                                return Ok(());
                            }
                            let states =
                                second_states * (number + 1) / second_lives - second_states * number / second_lives;
                            hand.live_on(first, &home.join(format!("second-{number}")), states, shared)?;
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let mut summary = shared.summary.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        summary.workload = self.workload.name;
        summary.widest_window = first.widest_window();
        (summary.written, summary.longest) = first.sizes();
        summary.took = begun.elapsed();
        if !summary.failing.is_empty() {
            keep(&first, &self.plan.keep.join(self.workload.name))?;
        }
        clear(&home)?;
        Ok(summary)
    }
}

/// One thread's means.
struct Hand<'r> {
    run: &'r Run<'r>,
    /// Where it rebuilds states.
    state: PathBuf,
    auditor: Auditor,
    rng: fastrand::Rng,
}

impl<'r> Hand<'r> {
    fn new(run: &'r Run<'r>, home: &Path, thread: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        (run.plan.seed, run.workload.name, thread).hash(&mut hasher);
        Self {
            run,
            state: home.join(format!("state-{thread}")),
            auditor: Auditor::new(&run.plan.program),
            rng: fastrand::Rng::with_seed(hasher.finish()),
        }
    }

    /// Audits so many new states of `life`, or fewer if no more are found.
    /// Answers how many, and whether any violated something.
    fn attack(&mut self, life: &Life, states: usize, shared: &Shared) -> Result<(usize, bool), Failed> {
        let (mut done, mut violated) = (0, false);
        for _ in 0..20 {
            if done >= states {
                break;
            }
            let moments = life.moments((states - done).div_ceil(12), &mut self.rng);
            let mut settled = Settled::new(&life.disk, &self.run.plan.syncs);
            for (number, moment) in moments.iter().enumerate() {
                // What is left is spread evenly over the moments that are left.
                let share = (states - done).div_ceil(moments.len() - number);
                let cut = settled.cut(*moment);
                let (tried, failed) = self.attack_at(life, &cut, *moment, share, shared)?;
                done += tried;
                violated |= failed;
                if done >= states {
                    break;
                }
            }
        }
        Ok((done, violated))
    }

    fn attack_at(
        &mut self,
        life: &Life,
        cut: &Cut<'_>,
        moment: Moment,
        most: usize,
        shared: &Shared,
    ) -> Result<(usize, bool), Failed> {
        let acknowledged = life.acknowledged(moment);
        let mut shapes: Vec<Shape> =
            SHAPES.iter().flat_map(|(shape, _, count)| std::iter::repeat_n(*shape, *count)).collect();
        self.rng.shuffle(&mut shapes);
        let (mut done, mut violated) = (0, false);
        for shape in shapes {
            if done >= most {
                break;
            }
            let roll = self.rng.u64(..1 << 32);
            let Some(choice) = cut.choose(shape, roll) else { continue };
            let mut hasher = DefaultHasher::new();
            (&life.name, cut.fingerprint(&choice), &acknowledged).hash(&mut hasher);
            if !locked(&shared.tried).insert(hasher.finish()) {
                continue;
            }
            clear(&self.state)?;
            cut.build(&choice, &self.state)?;
            let request = Request {
                subject: self.run.plan.subject,
                workload: self.run.workload.name.to_owned(),
                folder: self.state.join(STORE),
                acknowledged: acknowledged.clone(),
            };
            let findings = self.auditor.audit(&request)?;
            let name =
                StateName { workload: self.run.workload.name.to_owned(), life: life.name.clone(), moment, shape, roll };
            violated |= !findings.violations.is_empty();
            note(&mut locked(&shared.summary), &name, &findings);
            done += 1;
        }
        locked(&shared.summary).cuts += usize::from(done > 0);
        Ok((done, violated))
    }

    /// Lives on after one cut of `first`, in `folder`, and audits so many states of that life.
    fn live_on(&mut self, first: &Life, folder: &Path, states: usize, shared: &Shared) -> Result<(), Failed> {
        let moments = first.moments(1, &mut self.rng);
        let Some(moment) = moments.first().copied() else { return Ok(()) };
        let cut = Settled::new(&first.disk, &self.run.plan.syncs).cut(moment);
        let (shape, roll) = (SHAPES[self.rng.usize(..SHAPES.len())].0, self.rng.u64(..1 << 32));
        let Some((shape, choice)) =
            [shape, Shape::Nothing].into_iter().find_map(|shape| Some((shape, cut.choose(shape, roll)?)))
        else {
            return Ok(());
        };
        let about = (self.run.plan.subject, self.run.workload, Part::Second);
        let before = first.acknowledged(moment);
        let record = || {
            clear(folder)?;
            Life::record(self.run.recorder, about, folder, before.clone(), |files| cut.build(&choice, files))
        };
        // Calls of two threads on the same place of a file leave open which came last: such a life is lived anew.
        let mut life = record();
        for _ in 0..3 {
            if !matches!(life, Err(Failed::Trace(_))) {
                break;
            }
            life = record();
        }
        let life = match life {
            Ok(life) => life,
            Err(Failed::Life(reason)) => {
                let workload = self.run.workload.name.to_owned();
                let name = StateName { workload, life: first.name.clone(), moment, shape, roll };
                let mut findings = Findings::default();
                findings.add(Violation::Stopped, format!("it does not live on: {reason}"));
                note(&mut locked(&shared.summary), &name, &findings);
                return clear(folder);
            }
            Err(failed) => return Err(failed),
        };
        let (states, violated) = self.attack(&life, states, shared)?;
        locked(&shared.summary).after_second_cut += states;
        if violated {
            keep(&life, &self.run.plan.keep.join(self.run.workload.name))?;
        }
        clear(folder)
    }
}

fn note(summary: &mut Summary, name: &StateName, findings: &Findings) {
    summary.states += 1;
    let shape = summary.shapes.entry(shape_name(name.shape)).or_default();
    shape.0 += 1;
    if findings.violations.is_empty() {
        return;
    }
    shape.1 += 1;
    summary.violated += 1;
    let kinds: HashSet<Violation> = findings.violations.iter().map(|(kind, _)| *kind).collect();
    for kind in kinds {
        *summary.violations.entry(kind).or_default() += 1;
    }
    if summary.failing.len() < 20 {
        let what: Vec<String> =
            findings.violations.iter().take(3).map(|(kind, what)| format!("{kind:?}: {what}")).collect();
        summary.failing.push(format!("{name}  {}", what.join("; ")));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// An empty folder in this place.
fn clear(folder: &Path) -> Result<(), Failed> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(Failed::io("clear", folder)(cause)),
        _ => {}
    }
    fs::create_dir_all(folder).map_err(Failed::io("make", folder))
}

/// Copies a life to where it stays.
fn keep(life: &Life, to: &Path) -> Result<(), Failed> {
    let to = to.join(&life.name);
    clear(&to)?;
    copy(&life.folder, &to)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::create_dir_all(to).map_err(Failed::io("make", to))?;
    for entry in fs::read_dir(from).map_err(Failed::io("read", from))? {
        let entry = entry.map_err(Failed::io("read", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).map(drop).map_err(Failed::io("copy", &from))?;
        }
    }
    Ok(())
}

/// Rebuilds one state of a kept life into `into`, and answers what was acknowledged.
///
/// # Errors
/// If the life was not kept, or the state does not exist.
pub(crate) fn rebuild(plan: &Plan, name: &StateName, into: &Path) -> Result<Request, Failed> {
    let life = Life::read(&plan.keep.join(&name.workload).join(&name.life))?;
    let cut = Settled::new(&life.disk, &plan.syncs).cut(name.moment);
    let choice = cut.choose(name.shape, name.roll);
    let choice = choice.ok_or_else(|| Failed::Trace("there is no such state".to_owned()))?;
    clear(into)?;
    cut.build(&choice, into)?;
    Ok(Request {
        subject: plan.subject,
        workload: name.workload.clone(),
        folder: into.join(STORE),
        acknowledged: life.acknowledged(name.moment),
    })
}
