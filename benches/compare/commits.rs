//! How many units of work with one row and one stored event become durable in a second, by 1 and by 64 committers?
//!
//! Every contender makes each unit survive a power cut before it is acknowledged: something is synced for every group.
//! The raw file is the limit: preallocated, one write and one fdatasync a group, and nothing can be read back by key.
//! One committer of an engine calls it in its own thread; 64 are tasks that hand their units to a thread, which takes what waits.
//! The bus and PostgreSQL are used as an application would, from tasks in both cases.
//! Where a durable listener drains beside, it is said how many events it settled in a second of the same time.
//!
//! Folders are made in the system's temporary place: point `TMPDIR` at the disk that is meant.
//! Arguments: the seconds of each measurement, the number of rounds, a word that the names of contenders must hold, the numbers of
//! committers.
#![allow(missing_docs)]

use std::time::Duration;

use aftercommit_compare::Contender;
use aftercommit_compare::arguments::Arguments;
use aftercommit_compare::contenders::ALL;
use aftercommit_compare::measure::{Measured, rate, runtime, spread, table};

fn main() {
    let arguments = Arguments::of_this_process();
    let (span, rounds) = (Duration::from_secs_f64(arguments.at(0, 2.0)), arguments.at(1, 5));
    let mut contenders = Contender::chosen(&arguments.at(2, String::new()), &ALL);
    let committers: Vec<usize> = arguments.from(3).iter().map(|text| text.parse().expect("a number")).collect();
    let committers = if committers.is_empty() { vec![1, 64] } else { committers };
    let runtime = runtime();
    let mut measured = vec![vec![Vec::new(); committers.len()]; contenders.len()];
    for _ in 0..rounds {
        for (column, committers) in committers.iter().enumerate() {
            let mut row = 0;
            contenders.retain(|contender| match rate(contender, *committers, span, &runtime) {
                Ok(one) => {
                    measured[row][column].push(one);
                    row += 1;
                    true
                }
                Err(why) => {
                    println!("{}: left out: {why}", contender.name);
                    measured.remove(row);
                    false
                }
            });
        }
    }
    println!(
        "units a second, medians of {rounds} rounds of {span:?} (lowest and highest); processor time of all threads for a unit\n"
    );
    let heads: Vec<String> = committers.iter().map(usize::to_string).collect();
    table(&[&["committers"], &heads.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    for (contender, columns) in contenders.iter().zip(&measured) {
        let cells: Vec<_> = columns.iter().map(|rounds| cell(rounds)).collect();
        println!("| {} | {} |", contender.name, cells.join(" | "));
    }
}

fn cell(rounds: &[Measured]) -> String {
    let [lowest, middle, highest] = spread(rounds.iter().map(|one| one.rate));
    let [_, busy, _] = spread(rounds.iter().map(|one| one.busy));
    let drained: Vec<f64> = rounds.iter().filter_map(|one| one.drained).collect();
    let drained = if drained.is_empty() { String::new() } else { format!(", {:.0} drained", spread(drained)[1]) };
    format!("{middle:.0} ({lowest:.0}-{highest:.0}), {busy:.0} us{drained}")
}
