//! Which lines are one unit of work.

use shop::log::{HEADER, Kind, LogError, Unit, Units};
use shop::score::Scoring;

use crate::replayed;

/// The units and errors of a log of these lines.
pub(crate) fn read(lines: &[&str]) -> Vec<Result<Unit, LogError>> {
    let mut text = HEADER.to_owned();
    for line in lines {
        text.push('\n');
        text.push_str(line);
    }
    Units::new("log.csv".to_owned(), Box::new(std::io::Cursor::new(text))).unwrap().collect()
}

fn good(lines: &[&str]) -> Vec<Unit> {
    read(lines).into_iter().collect::<Result<_, _>>().unwrap()
}

fn shape(units: &[Unit]) -> Vec<(u64, u64, Option<&str>, usize)> {
    units.iter().map(|unit| (unit.number, unit.line, unit.order.as_deref(), unit.rows.len())).collect()
}

#[test]
fn consecutive_lines_of_one_order_are_one_unit_and_a_line_without_one_stands_alone() {
    let units = good(&[
        "1,1,purchase,1,1,2.5,A",
        "2,1,purchase,2,1,2.5,A",
        "3,1,view,2,,,",
        "4,1,view,2,,,",
        "5,1,purchase,2,1,2.5,B",
        "6,1,cancel,2,1,2.5,C",
    ]);
    let expected = [(0, 2, Some("A"), 2), (1, 4, None, 1), (2, 5, None, 1), (3, 6, Some("B"), 1), (4, 7, Some("C"), 1)];
    assert_eq!(shape(&units), expected);
}

#[test]
fn an_order_that_reappears_is_another_unit_of_the_same_order() {
    let units = good(&["1,1,purchase,1,1,2,A", "2,1,purchase,1,1,2,B", "3,1,purchase,1,1,2,A"]);
    assert_eq!(shape(&units), [(0, 2, Some("A"), 1), (1, 3, Some("B"), 1), (2, 4, Some("A"), 1)]);
}

#[test]
fn equal_lines_count_as_they_stand() {
    let units = good(&["1,1,purchase,1,1,2,A", "1,1,purchase,1,1,2,A", "1,1,view,1,,,", "1,1,view,1,,,"]);
    assert_eq!(shape(&units), [(0, 2, Some("A"), 2), (1, 4, None, 1), (2, 5, None, 1)]);
    assert_eq!(units[0].rows[0], units[0].rows[1]);
}

#[test]
fn lines_of_one_order_keep_their_own_days() {
    let units = good(&["1704153599999,1,purchase,1,1,2,A", "1704153600000,1,purchase,1,1,2,A"]);
    let days: Vec<String> = units[0].rows.iter().map(|row| row.day.to_string()).collect();
    assert_eq!(days, ["2024-01-01", "2024-01-02"]);
}

#[test]
fn a_row_has_what_its_columns_say() {
    let units = good(&["1291191960000,17850,purchase,3324,6,2.55,536365", "1291191960001,0,addtocart,7,,,"]);
    let [bought, carted] = [&units[0].rows[0], &units[1].rows[0]];
    assert_eq!(
        (bought.ts_ms, bought.user, bought.kind, bought.item),
        (1_291_191_960_000, 17_850, Kind::Purchase, 3324)
    );
    assert_eq!(bought.amount().unwrap().to_string(), "15.30");
    assert_eq!((carted.user, carted.kind, carted.quantity, carted.price), (0, Kind::AddToCart, None, None));
    assert_eq!(carted.amount(), None);
}

#[test]
fn a_purchase_without_a_price_has_units_and_ranks_but_no_value() {
    let units = good(&["1,1,purchase,7,3,,", "1,1,purchase,8,,,"]);
    assert_eq!(replayed::items(units.iter()), "item,units_sold,units_cancelled,revenue\n7,3,0,0.00\n8,0,0,0.00\n");
    let score = |scoring: &Scoring| {
        units.iter().map(|unit| scoring.score(&unit.rows[0]).unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(score(&replayed::by_count()), ["0.7", "0.7"]);
    assert_eq!(score(&replayed::by_value()), ["0", "0"]);
}

#[test]
fn an_item_with_nothing_but_cancels_on_a_day_is_not_ranked_that_day() {
    let units = good(&["1,1,cancel,7,3,2,A", "1,1,view,8,,,", "86400001,1,cancel,8,1,2,B", "172800001,1,like,8,,,"]);
    let expected = "{\"day\":\"1970-01-01\",\"ranked_items\":1,\"top\":[{\"rank\":1,\"item\":8,\"score\":0.1}]}\n\
                    {\"day\":\"1970-01-03\",\"ranked_items\":1,\"top\":[{\"rank\":1,\"item\":8,\"score\":0.2}]}\n";
    assert_eq!(replayed::rankings(units.iter(), &replayed::by_count(), 20), expected);
    let weightless = Scoring { weights: "view=0,like=0".parse().unwrap(), purchase_value: false };
    assert_eq!(replayed::rankings(units.iter(), &weightless, 20).matches("\"score\":0}").count(), 2);
}

#[test]
fn a_log_with_only_a_header_has_no_units() {
    assert!(read(&[]).is_empty());
}

#[test]
fn line_ends_empty_lines_and_byte_order_marks_make_no_difference() {
    let check = |text: &str| {
        let text = std::io::Cursor::new(text.to_owned());
        let units: Vec<Unit> =
            Units::new("log.csv".to_owned(), Box::new(text)).unwrap().collect::<Result<_, _>>().unwrap();
        units.iter().map(|unit| (unit.line, unit.rows.len())).collect::<Vec<_>>()
    };
    let rows = ["1,1,purchase,1,1,2,A", "2,1,purchase,1,1,2,A", "3,1,view,1,,,"];
    let [first, second, third] = rows;
    assert_eq!(check(&format!("{HEADER}\n{first}\n{second}\n{third}\n")), [(2, 2), (4, 1)]);
    assert_eq!(check(&format!("{HEADER}\n{first}\n{second}\n{third}")), [(2, 2), (4, 1)]);
    assert_eq!(check(&format!("{HEADER}\r\n{first}\r\n{second}\r\n{third}\r\n")), [(2, 2), (4, 1)]);
    assert_eq!(check(&format!("\u{feff}{HEADER}\n{first}\n\n{second}\n{third}\n\n")), [(2, 2), (5, 1)]);
}
