//! The command line: what is asked for, and the table it comes to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::audit::{Violation, with_causes};
use crate::auditor::{Request, answer, answer_requests};
use crate::bare;
use crate::cut::{Ignored, Syncs};
use crate::run::{self, Plan, StateName, Summary, rebuild};
use crate::store::Subject;
use crate::workload::{SECOND, WORKLOADS, Workload};
use aftercommit::error::BoxError;

const USAGE: &str = "\
usage: aftercommit-powercut [options]
  --store NAME        sled (default), redb, bare-sled-flush, bare-sled-fdatasync
  --states N          states in all, over all workloads (20000)
  --seed N            what is drawn (1)
  --workload NAME     only this one; may be given again
  --threads N         states at a time (as many as there are processors)
  --work FOLDER       where to work (a folder in /dev/shm)
  --keep FOLDER       where lives with violations are kept (target/powercut)
  --ignore-syncs OF   take the syncs of `files`, of `folders`, or of files of this name for nothing: the audit must notice
  --only STATE        rebuild one state that a run has printed, audit it, and keep its files";

/// Does what `arguments` ask for. Ends with 1 if a promise was violated, with 2 if something else failed.
pub fn run(arguments: Vec<String>) -> ExitCode {
    let ended = match arguments.first().map(String::as_str) {
        Some("live") => live(&arguments[1..]).map(|()| true),
        Some("audit") => runtime().and_then(|runtime| Ok(answer_requests(&runtime)?)).map(|()| true),
        _ => command(&arguments),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", with_causes(&*error));
            ExitCode::from(2)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, BoxError> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// A life under the recorder. It ends without letting go of what it did not close.
fn live(arguments: &[String]) -> Result<(), BoxError> {
    let [subject, workload, part, folder, marks] = arguments else { return Err(USAGE.into()) };
    let subject = Subject::named(subject).ok_or("no such store")?;
    let workload = Workload::named(workload).ok_or("no such workload")?;
    let openings = if part == "first" { workload.openings } else { &[SECOND] };
    let marks = Arc::new(File::create(marks)?);
    if subject.is_bare() {
        bare::live(subject, workload, Path::new(folder), &marks, openings)?;
    } else {
        runtime()?.block_on(workload.live(subject, Path::new(folder), marks, openings))?;
    }
    std::process::exit(0)
}

/// Answers whether no promise was violated.
fn command(arguments: &[String]) -> Result<bool, BoxError> {
    let mut plan = Plan {
        subject: Subject::Sled,
        workloads: Vec::new(),
        states: 20_000,
        seed: 1,
        syncs: Syncs::Honoured,
        threads: std::thread::available_parallelism()?.get(),
        program: std::env::current_exe()?,
        work: PathBuf::new(),
        keep: PathBuf::from("target/powercut"),
    };
    let mut only = None;
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value\n{USAGE}"));
        match option.as_str() {
            "--store" => plan.subject = Subject::named(value()?).ok_or(USAGE)?,
            "--states" => plan.states = value()?.parse()?,
            "--seed" => plan.seed = value()?.parse()?,
            "--workload" => plan.workloads.push(Workload::named(value()?).ok_or("no such workload")?),
            "--threads" => plan.threads = value()?.parse::<usize>()?.max(1),
            "--work" => plan.work = PathBuf::from(value()?),
            "--keep" => plan.keep = PathBuf::from(value()?),
            "--ignore-syncs" => {
                plan.syncs = Syncs::Ignored(match value()?.as_str() {
                    "files" => Ignored::Files,
                    "folders" => Ignored::Folders,
                    name => Ignored::Named(name.to_owned()),
                });
            }
            "--only" => only = Some(StateName::parse(value()?).ok_or("not the name of a state")?),
            _ => return Err(USAGE.into()),
        }
    }
    plan.keep = plan.keep.join(plan.subject.name());
    if let Some(name) = only {
        return one(&plan, &name);
    }
    if plan.workloads.is_empty() {
        plan.workloads = WORKLOADS.iter().collect();
    }
    let memory = Path::new("/dev/shm");
    let temporary = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let own = plan.work.as_os_str().is_empty();
    if own {
        plan.work = temporary.join(format!("aftercommit-powercut-{}", std::process::id()));
    }
    // Paths are compared as the system spells them.
    std::fs::create_dir_all(&plan.work)?;
    plan.work = plan.work.canonicalize()?;
    plan.states = plan.states.div_ceil(plan.workloads.len());
    print_head();
    let ran = run::run(&plan, print_row);
    if own {
        std::fs::remove_dir_all(&plan.work)?;
    }
    let summaries = ran?;
    let total = summaries.iter().fold(Summary { workload: "all", ..Summary::default() }, added);
    print_row(&total);
    println!();
    for (shape, (states, violated)) in &total.shapes {
        println!("{shape:>12}: {states:>6} states, {violated} violated");
    }
    for failing in summaries.iter().flat_map(|summary| &summary.failing) {
        println!("{failing}");
    }
    Ok(total.violated == 0)
}

fn one(plan: &Plan, name: &StateName) -> Result<bool, BoxError> {
    let into = plan.keep.join("state");
    let request = rebuild(plan, name, &into.join("as-it-stood"))?;
    println!("{} acknowledged: {:?}", into.join("as-it-stood").display(), request.acknowledged);
    // The audit changes what it opens.
    let request = Request { folder: rebuild(plan, name, &into.join("audited"))?.folder, ..request };
    let findings = answer(&runtime()?, &request);
    println!("{} units", findings.units);
    for (kind, what) in &findings.violations {
        println!("{kind:?}: {what}");
    }
    Ok(findings.violations.is_empty())
}

fn print_head() {
    print!("| workload | cuts | states | second cuts | written, MiB | file, MiB | window, KiB | violated |");
    Violation::ALL.iter().for_each(|(_, name)| print!(" {name} |"));
    println!(" s |\n|---|{}", "---:|".repeat(Violation::ALL.len() + 8));
}

fn print_row(summary: &Summary) {
    let Summary { workload, cuts, states, after_second_cut, written, longest, widest_window, violated, .. } = summary;
    print!(
        "| {workload} | {cuts} | {states} | {after_second_cut} | {} | {} | {} | {violated} |",
        written >> 20,
        longest >> 20,
        widest_window >> 10
    );
    for (kind, _) in Violation::ALL {
        print!(" {} |", summary.violations.get(&kind).copied().unwrap_or(0));
    }
    println!(" {:.0} |", summary.took.as_secs_f64());
}

fn added(mut total: Summary, summary: &Summary) -> Summary {
    total.cuts += summary.cuts;
    total.states += summary.states;
    total.after_second_cut += summary.after_second_cut;
    total.written += summary.written;
    total.longest = total.longest.max(summary.longest);
    total.widest_window = total.widest_window.max(summary.widest_window);
    total.violated += summary.violated;
    total.took += summary.took;
    for (kind, count) in &summary.violations {
        *total.violations.entry(*kind).or_default() += count;
    }
    for (shape, (states, violated)) in &summary.shapes {
        let sum = total.shapes.entry(shape).or_default();
        sum.0 += states;
        sum.1 += violated;
    }
    total
}
