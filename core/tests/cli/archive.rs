//! What an operator sees of an archive.

use aftercommit::adapters::archive::ArchiveFolder;
use aftercommit::store::{Archive, LogEvent};

use super::*;

/// A folder with an archive of four events.
fn archive() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("archive");
    let archive = ArchiveFolder::open(&path).expect("opens");
    let at = |position: u64| LogEvent {
        position: Position(position),
        envelope: std::sync::Arc::new(event(u128::from(position), "ada@example.org")),
    };
    archive.append(Position(1)..Position(9), true, &[at(1), at(2), at(5), at(8)]).expect("writes");
    (root, path)
}

#[test]
fn archive_list_show_and_export_tell_what_was_archived() {
    let (root, archive) = archive();
    let listed = json(&["archive", "list", path(&archive)]);
    let segment = &listed["segments"][0];
    assert_eq!((&segment["first"], &segment["end"], &segment["events"]), (&1.into(), &9.into(), &4.into()));
    assert!(said(&["archive", "list", path(&archive)]).contains("00000000000000000001-00000000000000000009.events"));

    let shown = json(&["archive", "show", path(&archive), "--from", "2", "--limit", "2"]);
    let positions: Vec<_> = shown["events"].as_array().expect("events").iter().map(|one| &one["position"]).collect();
    assert_eq!(positions, [2, 5]);
    let told = said(&["archive", "show", path(&archive)]);
    assert!(told.contains("00000000-0000-0000-0000-000000000008") && !told.contains("ada@example.org"), "{told}");
    let none = json(&["archive", "show", path(&archive), "--event", "nobody.knows"]);
    assert_eq!(none["events"].as_array().expect("events").len(), 0);

    let file = root.path().join("events.jsonl");
    assert_eq!(json(&["archive", "export", path(&archive), path(&file)])["events"], 4);
    let lines: Vec<Value> = std::fs::read_to_string(&file)
        .expect("reads")
        .lines()
        .map(|line| serde_json::from_str(line).expect("json"))
        .collect();
    assert_eq!((lines.len(), &lines[2]["position"]), (4, &5.into()));
    assert!(lines[0]["body"].to_string().contains("ada@example.org"), "{}", lines[0]);
    let (code, complaint) = refused(&["archive", "export", path(&archive), path(&file)]);
    assert_eq!(code, 1, "{complaint}");
    let piped = run(&["archive", "export", path(&archive), "-"]);
    assert_eq!(text(&piped.stdout).lines().count(), 4);
    assert!(text(&piped.stderr).contains("exported 4 events"));
}

#[test]
fn archive_verify_names_a_damaged_segment() {
    let (root, archive) = archive();
    assert_eq!(json(&["archive", "verify", path(&archive)])["whole"], true);
    let segment = archive.join("00000000000000000001-00000000000000000009.events");
    let mut bytes = std::fs::read(&segment).expect("reads");
    let middle = bytes.len() - 20;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).expect("writes");
    let verified = run(&["archive", "verify", path(&archive)]);
    assert_eq!(verified.status.code(), Some(4));
    assert!(text(&verified.stdout).contains("00000000000000000001-"), "{}", text(&verified.stdout));
    let (code, complaint) = refused(&["archive", "list", path(&root.path().join("nowhere"))]);
    assert_eq!(code, 1);
    assert!(complaint.contains("nowhere"), "{complaint}");
}
