//! Processes that audit: one audits many states, and a state that hangs it or kills it takes only it along.

use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failed;
use crate::audit::{Acknowledged, Findings, Violation, audit};
use crate::bare;
use crate::store::Subject;
use crate::workload::Workload;

/// How long an audit may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so many audits a process is replaced, for what sled keeps of each opening.
const AUDITS: usize = 400;

/// One audit that is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) subject: Subject,
    pub(crate) workload: String,
    pub(crate) folder: PathBuf,
    pub(crate) acknowledged: Acknowledged,
}

/// A process that audits, started when it is needed.
#[derive(Debug)]
pub(crate) struct Auditor {
    program: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    to: ChildStdin,
    answers: Receiver<String>,
    audits: usize,
}

impl Running {
    fn start(program: &Path) -> Result<Self, Failed> {
        let failed = || Failed::io("start an auditor", program);
        let mut child = Command::new(program)
            .arg("audit")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed())?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failed::Life("an auditor without pipes".to_owned()));
        };
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, to, answers, audits: 0 })
    }

    fn end(mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Auditor {
    /// An auditor that runs `program`, which is this package's.
    pub(crate) fn new(program: &Path) -> Self {
        Self { program: program.to_owned(), running: None }
    }

    /// Audits.
    ///
    /// # Errors
    /// If no process can be started.
    pub(crate) fn audit(&mut self, request: &Request) -> Result<Findings, Failed> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.program)?,
        };
        let line = serde_json::to_string(request).map_err(|cause| Failed::Life(cause.to_string()))?;
        let sent = writeln!(running.to, "{line}");
        let mut findings = Findings::default();
        match running.answers.recv_timeout(PATIENCE) {
            Ok(answer) if sent.is_ok() => {
                findings = serde_json::from_str(&answer).map_err(|cause| Failed::Life(cause.to_string()))?;
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                findings.add(Violation::Panicked, "the process ended");
            }
            Err(RecvTimeoutError::Timeout) => findings.add(Violation::Hung, format!("for {PATIENCE:?}")),
        }
        running.audits += 1;
        // After a violation nobody knows what state its engine is in.
        if findings.violations.is_empty() && running.audits < AUDITS {
            self.running = Some(running);
        } else {
            running.end();
        }
        Ok(findings)
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }
}

/// The other side: answers each request of a line with findings on a line.
///
/// # Errors
/// If the lines cannot be read or written.
pub(crate) fn answer_requests(runtime: &tokio::runtime::Runtime) -> std::io::Result<()> {
    for line in std::io::stdin().lines() {
        let findings = match serde_json::from_str::<Request>(&line?) {
            Ok(request) => answer(runtime, &request),
            Err(error) => panic!("not a request: {error}"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&findings)?)?;
        out.flush()?;
    }
    Ok(())
}

/// Audits here and now.
pub(crate) fn answer(runtime: &tokio::runtime::Runtime, request: &Request) -> Findings {
    let mut findings = Findings::default();
    let Some(workload) = Workload::named(&request.workload) else {
        findings.add(Violation::Refused, "there is no such workload");
        return findings;
    };
    let audited = catch_unwind(AssertUnwindSafe(|| {
        if request.subject.is_bare() {
            bare::audit(workload, &request.folder, &request.acknowledged)
        } else {
            runtime.block_on(audit(request.subject, workload, &request.folder, &request.acknowledged))
        }
    }));
    audited.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        findings.add(Violation::Panicked, text.unwrap_or_default());
        findings
    })
}
