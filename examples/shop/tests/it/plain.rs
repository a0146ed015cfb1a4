//! A plain recomputation of what a replay prints: the answer key where there is no other.
//!
//! It shares no code with the shop: whole text in memory, hash maps, floats from the standard library, a calendar that counts days.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// What a replay of a log prints.
pub(crate) struct Expected {
    /// The rankings by the weights 0.1, 0.2, 0.2 and 0.7.
    pub(crate) by_count: String,
    /// The same with purchases by their value.
    pub(crate) by_value: String,
    /// The items' sales.
    pub(crate) items: String,
    /// How many units of work there are.
    pub(crate) units: usize,
}

#[derive(Default)]
struct Sums {
    tenths: u64,
    values: Vec<f64>,
}

#[derive(Default)]
struct Sales {
    sold: u64,
    cancelled: u64,
    hundredths: u64,
}

/// Recomputes everything from the text of a log whose prices have at most two decimals.
pub(crate) fn recompute(text: &str, top: usize) -> Expected {
    let mut days: BTreeMap<i64, HashMap<u64, Sums>> = BTreeMap::new();
    let mut items: BTreeMap<u64, Sales> = BTreeMap::new();
    let (mut units, mut last_order) = (0, "");
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split(',').collect();
        let item: u64 = columns[3].parse().unwrap();
        let quantity: u64 = if columns[4].is_empty() { 0 } else { columns[4].parse().unwrap() };
        let hundredths = (columns[5].parse::<f64>().unwrap_or(0.0) * 100.0).round() as u64 * quantity;
        let (tenths, value) = match columns[2] {
            "view" => (1, 0.1),
            "like" | "addtocart" => (2, 0.2),
            "purchase" => (7, 0.7 * (hundredths as f64 / 100.0).ln_1p()),
            _ => (0, 0.0),
        };
        if tenths > 0 {
            let day = columns[0].parse::<i64>().unwrap() / 86_400_000;
            let sums = days.entry(day).or_default().entry(item).or_default();
            sums.tenths += tenths;
            sums.values.push(value);
        }
        if columns[2] == "purchase" {
            let sales = items.entry(item).or_default();
            sales.sold += quantity;
            sales.hundredths += hundredths;
        }
        if columns[2] == "cancel" {
            items.entry(item).or_default().cancelled += quantity;
        }
        if columns[6].is_empty() || columns[6] != last_order {
            units += 1;
        }
        last_order = columns[6];
    }
    Expected {
        by_count: rankings(&days, top, |sums| sums.tenths * 100_000),
        by_value: rankings(&days, top, |sums| {
            let mut values = sums.values.clone();
            values.sort_by(f64::total_cmp);
            (values.iter().sum::<f64>() * 1e6).round() as u64
        }),
        items: sales(&items),
        units,
    }
}

fn rankings(days: &BTreeMap<i64, HashMap<u64, Sums>>, top: usize, millionths: impl Fn(&Sums) -> u64) -> String {
    let mut text = String::new();
    for (day, items) in days {
        let mut scores: Vec<(u64, u64)> = items.iter().map(|(item, sums)| (millionths(sums), *item)).collect();
        scores.sort_by(|(left, left_item), (right, right_item)| right.cmp(left).then(left_item.cmp(right_item)));
        let places: Vec<String> = (1..)
            .zip(scores.iter().take(top))
            .map(|(rank, (score, item))| {
                let decimal = format!("{}.{:06}", score / 1_000_000, score % 1_000_000);
                let decimal = decimal.trim_end_matches('0').trim_end_matches('.');
                format!("{{\"rank\":{rank},\"item\":{item},\"score\":{decimal}}}")
            })
            .collect();
        let (date, ranked, places) = (date(*day), items.len(), places.join(","));
        writeln!(text, "{{\"day\":\"{date}\",\"ranked_items\":{ranked},\"top\":[{places}]}}").unwrap();
    }
    text
}

fn sales(items: &BTreeMap<u64, Sales>) -> String {
    let mut text = "item,units_sold,units_cancelled,revenue\n".to_owned();
    for (item, Sales { sold, cancelled, hundredths }) in items {
        writeln!(text, "{item},{sold},{cancelled},{}.{:02}", hundredths / 100, hundredths % 100).unwrap();
    }
    text
}

/// The date so many days after 1970-01-01, counted day by day.
fn date(mut days: i64) -> String {
    let (mut year, mut month) = (1970, 1);
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1];
        if days < length {
            return format!("{year:04}-{month:02}-{:02}", days + 1);
        }
        days -= length;
        month += 1;
        if month == 13 {
            (year, month) = (year + 1, 1);
        }
    }
}
