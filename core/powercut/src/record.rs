//! Recording: builds the recorder, and runs a life of this program under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failed;
use crate::store::Subject;
use crate::workload::Workload;

const SOURCE: &str = include_str!("../recorder.c");

/// How long a life may take.
const LIFETIME: Duration = Duration::from_secs(120);

/// The name of the store's folder within the recorded folder.
pub(crate) const STORE: &str = "store";

/// The library that records, built.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    library: PathBuf,
    program: PathBuf,
}

/// Which part of a workload is lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All its openings.
    First,
    /// What comes after a cut.
    Second,
}

impl Recorder {
    /// Builds the recorder in `folder`; it records lives of `program`, which is this package's.
    ///
    /// # Errors
    /// If this is not Linux, or there is no C compiler.
    pub(crate) fn build(folder: &Path, program: &Path) -> Result<Self, Failed> {
        if !cfg!(target_os = "linux") {
            return Err(Failed::Recorder("it needs Linux: it is loaded before libc".to_owned()));
        }
        let (source, library) = (folder.join("recorder.c"), folder.join("recorder.so"));
        fs::write(&source, SOURCE).map_err(Failed::io("write the recorder's source", &source))?;
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(&compiler)
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .map_err(|cause| Failed::Recorder(format!("the C compiler {compiler:?} cannot be run: {cause}")))?;
        if !built.status.success() {
            return Err(Failed::Recorder(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        Ok(Self { library, program: program.to_owned() })
    }

    /// Lives `part` of `workload` on the files in `files`, and records it to `trace`.
    ///
    /// # Errors
    /// If the life ends in any way but a good one, with what it said.
    pub(crate) fn record(
        &self,
        subject: Subject,
        workload: &Workload,
        part: Part,
        files: &Path,
        trace: &Path,
    ) -> Result<(), Failed> {
        let marks = trace.with_extension("marks");
        let life = Command::new(&self.program)
            .args(["live", subject.name(), workload.name, if part == Part::First { "first" } else { "second" }])
            .args([&files.join(STORE), &marks])
            .env("LD_PRELOAD", &self.library)
            .env("POWERCUT_ROOT", files)
            .env("POWERCUT_TRACE", trace)
            .env("POWERCUT_MARKS", &marks)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Failed::io("start a life", &self.program))?;
        let said = until_its_end(life)?;
        fs::remove_file(&marks).map_err(Failed::io("remove the marks", &marks))?;
        if said.0 { Ok(()) } else { Err(Failed::Life(said.1)) }
    }
}

/// Waits for a process; answers whether it ended well, and what it said.
fn until_its_end(mut child: Child) -> Result<(bool, String), Failed> {
    use std::io::Read;
    let said = child.stderr.take();
    let listening = std::thread::spawn(move || {
        let mut text = String::new();
        // What is not text is of no use here.
        let _ = said.map(|mut said| said.read_to_string(&mut text));
        text
    });
    let begun = Instant::now();
    let failed = |cause: std::io::Error| Failed::Life(format!("it cannot be waited for: {cause}"));
    let ended = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break Some(status);
        }
        if begun.elapsed() > LIFETIME {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = listening.join().unwrap_or_default();
    Ok(match ended {
        Some(status) if status.success() => (true, text),
        Some(status) => (false, format!("{status}: {text}")),
        None => (false, format!("it took longer than {LIFETIME:?}: {text}")),
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::trace::{Call, Trace};

    /// Runs `script` in a folder that is recorded; answers its status, the folder and the trace.
    fn recorded(script: &str) -> (Option<i32>, tempfile::TempDir, Trace) {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().canonicalize().expect("its path");
        let recorder = Recorder::build(&path, Path::new("")).expect("is built");
        let (files, trace) = (path.join("files"), path.join("trace"));
        fs::create_dir(&files).expect("is made");
        let ended = Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(&files)
            .env("LD_PRELOAD", &recorder.library)
            .env("POWERCUT_ROOT", &files)
            .env("POWERCUT_TRACE", &trace)
            .env("POWERCUT_MARKS", path.join("marks"))
            .stderr(Stdio::null())
            .status()
            .expect("runs");
        let trace = Trace::read(&trace, &files).expect("can be read");
        (ended.code(), home, trace)
    }

    #[test]
    fn what_a_program_does_to_its_files_is_recorded_whole() {
        // One process: the shell's own writes, in a folder named without its whole path.
        let (code, home, trace) = recorded("echo one > a; echo two >> a; echo three > ../files/b; cd .; : > b");
        assert_eq!(code, Some(0));
        let writes = trace.events.iter().filter(|event| matches!(event.call, Call::Write { .. })).count();
        assert_eq!(writes, 3);
        let nothing = tempfile::tempdir().expect("a folder");
        let followed = Disk::follow(nothing.path(), trace);
        // A path that is not plain is refused rather than guessed at.
        assert!(matches!(followed, Err(Failed::Trace(_))), "{followed:?}");
        drop(home);
        let (code, home, trace) = recorded("echo one > a; echo two >> a; echo three > b; : > b");
        assert_eq!(code, Some(0));
        let files = home.path().join("files");
        let disk = Disk::follow(nothing.path(), trace).expect("makes sense");
        disk.check_whole(&files).expect("the same files");
        fs::write(files.join("a"), "one\ntwo?").expect("writes");
        assert!(disk.check_whole(&files).is_err(), "a change that was not recorded is noticed");
    }

    #[test]
    fn a_change_that_cannot_be_recorded_ends_the_program() {
        let (code, _home, _trace) = recorded("exec ln -s here there");
        assert_eq!(code, Some(97));
    }
}
