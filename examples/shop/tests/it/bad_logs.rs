//! A bad log is told with file and line, and nothing of a bad order is given out.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use shop::log::{HEADER, LogError, Source, Unit};
use tempfile::TempDir;

use crate::units::read;

/// An error and its causes, on one line.
fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", told(cause)),
        None => error.to_string(),
    }
}

/// What is told of a line that stands alone, as the third of the file.
fn told_of(line: &str) -> String {
    let units = read(&["1,1,view,1,,,", line, "3,1,view,1,,,"]);
    assert_eq!(units.len(), 3, "{line:?}");
    assert!(units[0].is_ok() && units[2].is_ok(), "{line:?}");
    let error = units[1].as_ref().unwrap_err();
    assert!(error.is_skippable());
    told(error)
}

#[test]
fn every_bad_line_is_told_with_file_line_and_reason() {
    let check = |line: &str, refused: &str, reason: &str| {
        assert_eq!(told_of(line), format!("log.csv: line 3: {refused} refused: {reason}"));
    };
    let (line, order) = ("1 line", "order A (1 line)");
    check("hello", line, "1 columns instead of 7");
    check("1,1,view,1,,", line, "6 columns instead of 7");
    check("1,1,view,1,,,,", line, "8 columns instead of 7");
    check("1,1,viewed,1,,,", line, "unknown event `viewed`; expected one of: view, like, addtocart, purchase, cancel");
    check("1,1,View,1,,,", line, "unknown event `View`; expected one of: view, like, addtocart, purchase, cancel");
    check("1,1,,1,,,", line, "unknown event ``; expected one of: view, like, addtocart, purchase, cancel");
    check("1,1,purchase,1,-3,2.5,A", order, "qty `-3` cannot be used: negative");
    check("1,1,cancel,1,-3,2.5,A", order, "qty `-3` cannot be used: negative");
    check("1,1,purchase,1,1.5,2.5,A", order, "qty `1.5` cannot be used: more than 0 decimals");
    check("1,1,purchase,1,many,2.5,A", order, "qty `many` cannot be used: not a decimal number");
    check("1,1,purchase,1,1000001,2.5,A", order, "qty `1000001` cannot be used: larger than 1000000");
    check("1,1,purchase,1,1,2.55555,A", order, "price `2.55555` cannot be used: more than 4 decimals");
    check("1,1,purchase,1,1,-2.5,A", order, "price `-2.5` cannot be used: negative");
    check("1,1,purchase,1,1,2e5,A", order, "price `2e5` cannot be used: not a decimal number");
    check("1,1,purchase,1,1,£2,A", order, "price `£2` cannot be used: not a decimal number");
    check("1,1,purchase,1,1,100000000.01,A", order, "price `100000000.01` cannot be used: larger than 100000000");
    check("1,1,purchase,1,,2.5,A", order, "a purchase with a price but no quantity");
    check(",1,view,1,,,", line, "ts_ms is missing");
    check("1,,view,1,,,", line, "user is missing");
    check("1,1,view,,,,", line, "item is missing");
    check("noon,1,view,1,,,", line, "ts_ms `noon` is not a number in range");
    check("1,-1,view,1,,,", line, "user `-1` is not a number in range");
    check("1,1,view,18446744073709551616,,,", line, "item `18446744073709551616` is not a number in range");
    check("253402300800000,1,view,1,,,", line, "ts_ms `253402300800000` is outside the years 0001 to 9999");
    check(
        "1,1,view\u{1b}[2J,1,,,",
        line,
        "unknown event `view\\u{1b}[2J`; expected one of: view, like, addtocart, purchase, cancel",
    );
}

#[test]
fn overlong_lines_and_order_numbers_are_told_in_short() {
    let told = told_of(&"1".repeat(5_000));
    assert_eq!(told, "log.csv: line 3: 1 line refused: longer than 4096 bytes");
    let told = told_of(&format!("1,1,purchase,1,1,2,{}", "A".repeat(65)));
    let short = "A".repeat(60);
    assert_eq!(told, format!("log.csv: line 3: 1 line refused: order number `{short}…` is longer than 64 bytes"));
    assert!(read(&[&format!("1,1,purchase,1,1,2,{}", "A".repeat(64))])[0].is_ok());
    let longest = format!("1,{:0>4000},view,1,,,", 7);
    assert!(read(&[&longest])[0].is_ok());
}

fn shape(units: &[Result<Unit, LogError>]) -> Vec<String> {
    let shape = |unit: &Result<Unit, LogError>| match unit {
        Ok(unit) => {
            let order = unit.order.as_deref().unwrap_or("-");
            format!("{}: {order}, {} rows", unit.number, unit.rows.len())
        }
        Err(LogError::BadUnit { unit, orders, lines, line, .. }) => {
            format!("{unit}: bad {}, {lines} lines, at {line}", orders.join("+"))
        }
        Err(other) => format!("{other}"),
    };
    units.iter().map(shape).collect()
}

#[test]
fn a_bad_line_takes_its_whole_order_with_it_and_no_other() {
    let (a, b, bad) = ("1,1,purchase,1,1,2,A", "1,1,purchase,1,1,2,B", "1,1,purchase,1,-1,2,A");
    let check = |lines: &[&str], expected: &[&str]| assert_eq!(shape(&read(lines)), expected, "{lines:?}");
    check(&[b, a, bad, a, b], &["0: B, 1 rows", "1: bad A, 3 lines, at 4", "2: B, 1 rows"]);
    check(&[bad, a, a, b], &["0: bad A, 3 lines, at 2", "1: B, 1 rows"]);
    check(&[a, a, bad], &["0: bad A, 3 lines, at 4"]);
    check(&[bad, bad, b], &["0: bad A, 2 lines, at 2", "1: B, 1 rows"]);
    check(&[a, b, bad], &["0: A, 1 rows", "1: B, 1 rows", "2: bad A, 1 lines, at 4"]);
    check(&[bad, b, a], &["0: bad A, 1 lines, at 2", "1: B, 1 rows", "2: A, 1 rows"]);
}

#[test]
fn a_line_whose_order_cannot_be_told_takes_both_its_neighbours_with_it() {
    let (a, b, alone, bad) = ("1,1,purchase,1,1,2,A", "1,1,purchase,1,1,2,B", "1,1,view,1,,,", "1,1,purch");
    let check = |lines: &[&str], expected: &[&str]| assert_eq!(shape(&read(lines)), expected, "{lines:?}");
    check(&[a, bad, a, b], &["0: bad A, 3 lines, at 3", "1: B, 1 rows"]);
    check(&[alone, a, bad, b, b, alone], &["0: -, 1 rows", "1: bad A+B, 4 lines, at 4", "2: -, 1 rows"]);
    check(&[bad, a, b], &["0: bad A, 2 lines, at 2", "1: B, 1 rows"]);
    check(&[a, bad], &["0: bad A, 2 lines, at 3"]);
    check(&[alone, bad, alone], &["0: -, 1 rows", "1: bad , 1 lines, at 3", "2: -, 1 rows"]);
    check(&[a, bad, alone, b], &["0: bad A, 2 lines, at 3", "1: -, 1 rows", "2: B, 1 rows"]);
    let both = read(&[a, bad, b]);
    assert_eq!(
        told(both[0].as_ref().unwrap_err()),
        "log.csv: line 3: orders A to B (3 lines) refused: 3 columns instead of 7"
    );
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn source(&self, name: &str, bytes: &[u8]) -> (Source, PathBuf) {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        (Source::File(path.clone()), path)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What is told when a file's units are asked for, with the file's name cut off.
fn refused(name: &str, bytes: &[u8]) -> String {
    let folder = Folder::new();
    let (source, path) = folder.source(name, bytes);
    let error = source.units().map(|_| ()).unwrap_err();
    assert!(!error.is_skippable());
    told(&error).strip_prefix(&format!("{}: ", path.display())).expect("the file is named first").to_owned()
}

#[test]
fn a_file_without_the_header_is_refused() {
    let empty = format!("empty; expected the header `{HEADER}`");
    assert_eq!(refused("log.csv", b""), empty);
    assert_eq!(refused("log.csv.gz", b""), empty);
    assert_eq!(refused("log.csv.gz", &gzip(b"")), empty);
    let header = |found: &str| format!("line 1: expected the header `{HEADER}`, found `{found}`");
    assert_eq!(refused("log.csv", b"1,1,view,1,,,\n"), header("1,1,view,1,,,"));
    assert_eq!(refused("log.csv", b"\n"), header(""));
    let swapped = "ts_ms,user,item,event,qty,price,order";
    assert_eq!(refused("log.csv", format!("{swapped}\n1,1,1,view,,,\n").as_bytes()), header(swapped));
    assert_eq!(refused("log.csv", b"\x00\xff\x1b\n"), header("\\0\u{fffd}\\u{1b}"));
    assert_eq!(refused("log.csv", &[b'x'; 10_000]), header("(an overlong line)"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Source::File(PathBuf::from("no/such/log.csv")).units().map(|_| ()).unwrap_err();
    assert!(told(&error).starts_with("no/such/log.csv: cannot open: No such file"), "{}", told(&error));
}

/// A log of three orders of three lines each.
fn three_orders() -> String {
    let mut text = format!("{HEADER}\n");
    for order in ["A", "B", "C"] {
        for item in 1..=3 {
            text.push_str(&format!("1,1,purchase,{item},1,2.5,{order}\n"));
        }
    }
    text
}

#[test]
fn a_gzip_cut_anywhere_is_refused_and_never_gives_out_part_of_an_order() {
    let folder = Folder::new();
    let whole = gzip(three_orders().as_bytes());
    for length in 2..whole.len() {
        let (source, path) = folder.source("log.csv.gz", &whole[..length]);
        let error = source.content().unwrap_err();
        assert!(matches!(error, LogError::Truncated { .. }), "{length}: {error}");
        assert!(!error.is_skippable());
        let last = match source.units() {
            Ok(units) => {
                let mut read: Vec<_> = units.collect();
                let last = read.pop().unwrap();
                for unit in read {
                    assert_eq!(unit.unwrap().rows.len(), 3, "cut at {length}");
                }
                last.unwrap_err()
            }
            Err(error) => error,
        };
        let LogError::Truncated { file, line, .. } = &last else { panic!("cut at {length}: {last}") };
        assert_eq!(*file, path.display().to_string());
        assert!((1..=11).contains(line), "cut at {length}: line {line}");
        assert!(told(&last).contains("the gzip data is truncated"));
    }
    let (source, _) = folder.source("log.csv.gz", &whole);
    assert_eq!(source.content().unwrap().lines, 10);
    assert_eq!(source.units().unwrap().map(|unit| unit.unwrap().rows.len()).sum::<usize>(), 9);
}

#[test]
fn a_gzip_with_a_changed_byte_is_refused() {
    let folder = Folder::new();
    let mut changed = gzip(three_orders().as_bytes());
    let checksum = changed.len() - 8;
    changed[checksum] ^= 1;
    let (source, _) = folder.source("log.csv.gz", &changed);
    assert!(matches!(source.content().unwrap_err(), LogError::Read { .. }));
    let last = source.units().unwrap().last().unwrap().unwrap_err();
    assert!(told(&last).contains("line 11: cannot read on: "), "{}", told(&last));
}

#[test]
fn nothing_follows_an_error_of_the_file() {
    let folder = Folder::new();
    let whole = gzip(three_orders().as_bytes());
    let (source, _) = folder.source("log.csv.gz", &whole[..whole.len() - 4]);
    let mut units = source.units().unwrap();
    assert!(units.find(|unit| unit.is_err()).is_some());
    assert!(units.next().is_none());
}

#[test]
fn gzip_is_told_by_content_and_may_have_several_members() {
    let folder = Folder::new();
    let text = three_orders();
    let (first, second) = text.split_at(100);
    let members = [gzip(first.as_bytes()), gzip(second.as_bytes())].concat();
    for (name, bytes) in [
        ("plain.csv", text.clone().into_bytes()),
        ("named.csv", gzip(text.as_bytes())),
        ("members.csv.gz", members),
        ("plain.gz", text.clone().into_bytes()),
    ] {
        let (source, _) = folder.source(name, &bytes);
        let rows: usize = source.units().unwrap().map(|unit| unit.unwrap().rows.len()).sum();
        assert_eq!(rows, 9, "{name}");
    }
}
