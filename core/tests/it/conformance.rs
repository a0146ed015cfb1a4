//! Every conformance case has a test that carries its id.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The cases, by group.
const CASES: [(&str, &[u32]); 19] = [
    ("tx", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26]),
    ("sp", &[1, 2, 4, 6]),
    ("ev", &[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 16, 18]),
    ("lc", &[1, 2, 5, 6, 8, 9, 10]),
    ("bus", &[1, 2, 4, 5, 7, 9, 10, 11, 12]),
    ("reg", &[1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 20, 21, 23, 24]),
    ("nms", &[1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18]),
    ("dlq", &[1, 2, 6, 7, 8, 10, 11]),
    ("par", &[1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 15, 16, 19, 20]),
    ("ack", &[1, 3, 4, 5, 6, 8, 10, 11, 12, 14, 15, 16]),
    ("obx", &[1, 2, 3, 4, 5, 7, 8, 10, 11, 13, 14, 15, 16]),
    ("ts", &[1, 2]),
    ("cb", &[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 14, 15, 17, 18, 19, 20]),
    ("rt", &[1, 2, 3, 4, 6, 7, 8, 10]),
    ("rl", &[1, 2, 3, 5, 7, 8]),
    ("bh", &[1, 2, 4, 6]),
    ("tl", &[1, 3, 4]),
    ("ord", &[1, 2, 4, 5, 6, 8]),
    ("rk", &[1, 2, 3, 4, 5, 7, 8, 11]),
];

/// The ids of the tests in `source`, as in `tx_08`: the heads of function names that begin with a group and a number.
fn ids(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in source.match_indices("fn ") {
        let name: String =
            source[at + 3..].chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        let mut parts = name.split('_');
        if let (Some(group), Some(number), Some(_promise)) = (parts.next(), parts.next(), parts.next())
            && CASES.iter().any(|(known, _)| *known == group)
            && number.len() == 2
            && number.bytes().all(|digit| digit.is_ascii_digit())
        {
            found.insert(format!("{group}_{number}"));
        }
    }
    found
}

fn cases() -> BTreeSet<String> {
    CASES.iter().flat_map(|(group, numbers)| numbers.iter().map(move |number| format!("{group}_{number:02}"))).collect()
}

#[test]
fn every_case_has_a_test_and_every_id_is_a_case() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")];
    let mut tested = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of these tests") {
            let path = entry.expect("an entry of the folder").path();
            // This file speaks of ids without testing them.
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("conformance.rs") {
                tested.extend(ids(&fs::read_to_string(&path).expect("a readable source")));
            }
        }
    }
    let cases = cases();
    assert_eq!(cases.len(), 191);
    let missing: Vec<&String> = cases.difference(&tested).collect();
    assert!(missing.is_empty(), "cases without a test: {missing:?}");
    let unknown: Vec<&String> = tested.difference(&cases).collect();
    assert!(unknown.is_empty(), "tests of cases that are not listed: {unknown:?}");
}

#[test]
fn an_id_is_read_from_the_head_of_a_tests_name_only() {
    let source = "async fn tx_08_hooks(home: &dyn Home) {} fn bus_11_waits() {} fn ev_1_short() {} fn not_tx_09_x() {} fn sp_04()";
    assert_eq!(ids(source).into_iter().collect::<Vec<_>>(), ["bus_11", "tx_08"]);
}
