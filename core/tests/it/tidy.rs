//! The conventions of the source, held by tests.

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up; a module imports only from floors below its own.
const FLOORS: [&[&str]; 12] = [
    &["error"],
    &["clock", "activity"],
    &["event", "key", "resilience"],
    &["store"],
    &["observe", "table", "lock", "publication"],
    &["transaction"],
    &["listener"],
    &["consumer"],
    &["bus"],
    &["adapters", "ranking"],
    &["runtime"],
    &["testing"],
];

/// Tables of contents stand beside the house: they import everything and nobody imports them.
const CONTENTS: [&str; 3] = ["lib", "prelude", "guides"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the source folder is readable") {
            let path = entry.expect("an entry of the source folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is readable");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 30, "the source folder was not found whole");
    found.sort();
    found
}

/// The top-level module a file belongs to.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("a file of the source folder");
    let first = inside.iter().next().expect("a file has a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file: without comments and without its tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every `x` of a `crate::x` or `crate::{x, ..}` in `code`.
fn crate_imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                match letter {
                    ',' if depth == 0 => found.push(std::mem::take(&mut word)),
                    _ => word.push(letter),
                }
            }
            found.push(word);
        } else {
            found.push(rest.to_owned());
        }
    }
    found
        .iter()
        .map(|path| path.trim().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect())
        .filter(|name: &String| !name.is_empty())
        .collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn modules_import_downward_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        if CONTENTS.contains(&module.as_str()) {
            continue;
        }
        let own = floor(&module).unwrap_or_else(|| panic!("module `{module}` has no floor: give it one"));
        for used in crate_imports(&code(&text)) {
            // What the crate's root re-exports: `crate::Error` and the like.
            let used = if used == "Error" { "error".to_owned() } else { used };
            if used == module || used == "__private" {
                continue;
            }
            match floor(&used) {
                Some(below) if below < own => {}
                Some(_) => wrong.push(format!("{}: `{module}` must not import `{used}`", path.display())),
                None => wrong.push(format!("{}: `crate::{used}` is on no floor: name its module", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_import_check_sees_groups_and_single_paths() {
    let seen = crate_imports(&code("use crate::{bus::{Bus, Core}, store};\nlet x = crate::key::Key; // crate::table"));
    assert_eq!(seen, ["bus", "store", "key"]);
}

#[test]
fn every_module_opens_with_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not open with a `//!` line", path.display());
    }
}

#[test]
fn technologies_are_named_in_adapters_only() {
    for (path, text) in sources() {
        let module = module_of(&path);
        if module == "adapters" || CONTENTS.contains(&module.as_str()) {
            continue;
        }
        // A state of a circuit breaker is called so, by whoever knows one.
        let text = text.replace("metrics_only", "").replace("metrics-only", "");
        for name in ["sled", "redb", "postgres", "kafka", "nats", "metrics"] {
            let named =
                code(&text).to_lowercase().split(|letter: char| !letter.is_alphanumeric()).any(|word| word == name);
            assert!(!named, "{} names `{name}` outside `adapters`", path.display());
        }
    }
}

#[test]
fn time_and_chance_come_from_the_clock_module() {
    for (path, text) in sources() {
        if module_of(&path) == "clock" {
            continue;
        }
        for word in ["SystemTime::now", "Instant::now", "thread::sleep", "time::sleep", "fastrand", "time::timeout"] {
            assert!(!code(&text).contains(word), "{} uses `{word}`: ask `clock`", path.display());
        }
    }
}

#[test]
fn the_changelog_knows_this_version() {
    let changelog = Path::new(env!("CARGO_MANIFEST_DIR")).join("../CHANGELOG.md");
    let text = fs::read_to_string(changelog).expect("the changelog is there");
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.contains(&format!("## {version}")), "CHANGELOG.md has no section for {version}");
}
