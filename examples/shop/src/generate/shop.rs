//! The made-up shop: who comes, what they do, and what happens at midnight.

use std::collections::VecDeque;
use std::fmt;

use super::Month;
use super::chance::{Chance, Zipf};
use crate::day::DAY_MS;
use crate::log::Kind;

/// 2024-01-01, in milliseconds since 1970-01-01 UTC.
const START_MS: i64 = 1_704_067_200_000;
const ITEMS: u64 = 1_000;
const USERS: u64 = 5_000;
const FIRST_ORDER: u64 = 100_001;
/// How many of the last orders may still be taken back or added to.
const RECENT: usize = 64;

/// One line of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    ts_ms: i64,
    user: u64,
    kind: Kind,
    item: u64,
    /// Quantity, price of one in hundredths and order number of what is bought or taken back.
    sale: Option<(u64, u64, u64)>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ts_ms, user, kind, item, sale } = self;
        write!(f, "{ts_ms},{user},{kind},{item},")?;
        match sale {
            Some((quantity, price, order)) => {
                write!(f, "{quantity},{}.{:02},{order}", price / 100, price % 100)
            }
            None => f.write_str(",,"),
        }
    }
}

/// An order that may still change.
#[derive(Clone, Copy, Debug)]
struct Placed {
    order: u64,
    user: u64,
    item: u64,
    quantity: u64,
}

/// Makes the lines of a month.
pub(super) struct Shop {
    chance: Chance,
    zipf: Zipf,
    /// Item and price by popularity.
    catalogue: Vec<(u64, u64)>,
    span_ms: i64,
    lines: u64,
    /// Lines given out.
    given: u64,
    /// Lines made and not yet given out.
    waiting: VecDeque<Line>,
    midnight: i64,
    next_order: u64,
    recent: VecDeque<Placed>,
}

impl Shop {
    pub(super) fn new(month: Month) -> Self {
        let mut chance = Chance::new(month.seed);
        let mut catalogue: Vec<(u64, u64)> = (1..=ITEMS).map(|item| (item, 25 + chance.below(4_975))).collect();
        chance.shuffle(&mut catalogue);
        Self {
            chance,
            zipf: Zipf::new(ITEMS),
            catalogue,
            span_ms: i64::from(month.days.get().min(Month::MOST_DAYS)) * DAY_MS,
            lines: month.lines.get(),
            given: 0,
            waiting: VecDeque::new(),
            midnight: START_MS,
            next_order: FIRST_ORDER,
            recent: VecDeque::new(),
        }
    }

    /// When the line now being made happens: the lines are spread evenly over the month.
    fn now(&self) -> i64 {
        let made = u128::from(self.given) + self.waiting.len() as u128;
        let passed = self.span_ms as u128 * made / u128::from(self.lines);
        START_MS + (passed as i64).min(self.span_ms - 1)
    }

    fn push(&mut self, ts_ms: i64, user: u64, kind: Kind, item: u64, sale: Option<(u64, u64, u64)>) {
        self.waiting.push_back(Line { ts_ms, user, kind, item, sale });
    }

    fn draw_item(&mut self) -> u64 {
        self.catalogue[self.zipf.draw(&mut self.chance)].0
    }

    fn price(&self, wanted: u64) -> u64 {
        self.catalogue.iter().find(|(item, _)| *item == wanted).map_or(0, |(_, price)| *price)
    }

    /// Somebody looks at some items, likes a few, and may buy what is in the cart.
    fn visit(&mut self) {
        let user = if self.chance.once_in(4) { 0 } else { 1 + self.chance.below(USERS) };
        let mut cart = Vec::new();
        for _ in 0..=self.chance.below(6) {
            let item = self.draw_item();
            self.push(self.now(), user, Kind::View, item, None);
            if self.chance.once_in(10) {
                self.push(self.now(), user, Kind::Like, item, None);
            }
            if self.chance.once_in(3) {
                self.push(self.now(), user, Kind::AddToCart, item, None);
                cart.push(item);
            }
        }
        if !cart.is_empty() && self.chance.once_in(2) {
            let order = self.new_order();
            let now = self.now();
            for item in cart {
                self.buy(now, user, order, item);
            }
        }
        if self.chance.once_in(40) {
            self.take_back();
        }
        if self.chance.once_in(200) {
            self.add_to_order();
        }
    }

    fn new_order(&mut self) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        order
    }

    fn buy(&mut self, ts_ms: i64, user: u64, order: u64, item: u64) {
        let quantity = if self.chance.once_in(20) { 12 } else { 1 + self.chance.below(3) };
        let sale = Some((quantity, self.price(item), order));
        self.push(ts_ms, user, Kind::Purchase, item, sale);
        if self.chance.once_in(100) {
            self.push(ts_ms, user, Kind::Purchase, item, sale);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Placed { order, user, item, quantity });
    }

    fn a_recent_order(&mut self) -> Option<Placed> {
        let count = self.recent.len() as u64;
        (count > 0).then(|| self.recent[self.chance.below(count) as usize])
    }

    /// A bought item comes back, some or all of it, under an order number of its own.
    fn take_back(&mut self) {
        let Some(Placed { user, item, quantity, .. }) = self.a_recent_order() else { return };
        let order = self.new_order();
        let returned = 1 + self.chance.below(quantity);
        self.push(self.now(), user, Kind::Cancel, item, Some((returned, self.price(item), order)));
    }

    /// An order that seemed finished gets another item.
    fn add_to_order(&mut self) {
        let Some(Placed { order, user, .. }) = self.a_recent_order() else { return };
        let item = self.draw_item();
        self.buy(self.now(), user, order, item);
    }

    /// An order from both sides of midnight, and events of the day before that come late.
    fn turn_of_the_day(&mut self) {
        let (user, order) = (1 + self.chance.below(USERS), self.new_order());
        for ts_ms in [self.midnight - 1, self.midnight, self.midnight + 1] {
            let item = self.draw_item();
            self.buy(ts_ms, user, order, item);
        }
        for kind in [Kind::View, Kind::AddToCart] {
            let late = self.midnight - 1 - self.chance.below(DAY_MS as u64) as i64;
            let item = self.draw_item();
            self.push(late, user, kind, item, None);
        }
        self.add_to_order();
    }
}

impl Iterator for Shop {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.given == self.lines {
            return None;
        }
        if self.waiting.is_empty() {
            let midnight = self.now() - self.now().rem_euclid(DAY_MS);
            if midnight > self.midnight {
                self.midnight = midnight;
                self.turn_of_the_day();
            }
            self.visit();
        }
        self.given += 1;
        self.waiting.pop_front()
    }
}
