//! A process of its own: this program run again, with the first word `child`.

use std::process::{Child, Command, Stdio};

/// The first argument of a child.
const CHILD: &str = "child";

/// What this process was told if it is a child.
pub fn told() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next().as_deref() == Some(CHILD)).then(|| arguments.collect())
}

/// Runs a child to its end, however it ends, and answers the last line that it said.
///
/// # Panics
/// If it cannot be started, or said nothing.
pub fn run(words: &[&str]) -> String {
    let output = start(words).wait_with_output().expect("it can be followed");
    let said = String::from_utf8(output.stdout).expect("text");
    said.lines().last().unwrap_or_else(|| panic!("the child {words:?} said nothing")).to_owned()
}

fn start(words: &[&str]) -> Child {
    let this = std::env::current_exe().expect("it knows itself");
    Command::new(this).arg(CHILD).args(words).stdout(Stdio::piped()).spawn().expect("it starts")
}

/// Ends this process as `kill -9` would: nothing is closed, flushed or dropped.
pub fn end_as_killed() -> ! {
    std::process::abort()
}
