//! Windows of time: which one a moment belongs to, and how many are kept.
//!
//! A window is named by the moment it begins. Days and hours are those of a time zone: a day has 23 or 25 hours where the clocks
//! change, and the hour that comes twice is two windows.
//! What is kept is counted from the newest window that an event belonged to, never from a clock, so that a rebuild keeps the same.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::error::RankingError;

/// How many windows without end are allowed to stand between two that have events before those between are left out.
const LONGEST_GAP: usize = 4_096;

/// How long a decaying ranking adds up in one unit before it begins another, in half-lives.
pub(super) const EPOCH: u32 = 8;

/// A time zone.
///
/// ```
/// use aftercommit::ranking::Zone;
///
/// let zone = Zone::named("Europe/London")?;
/// # let _ = zone;
/// # Ok::<_, aftercommit::error::RankingError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone of a name of the IANA database: that of the system, else the one this library brings.
    ///
    /// # Errors
    /// [`RankingError::UnknownZone`].
    pub fn named(name: &str) -> Result<Self, RankingError> {
        let zone = TimeZone::get(name);
        zone.map(Self).map_err(|cause| RankingError::UnknownZone { name: name.to_owned(), cause: cause.to_string() })
    }
}

/// How a ranking divides time.
#[derive(Debug, Clone)]
pub struct Windows {
    pub(super) kind: Kind,
    /// How many windows are kept, the newest among them; `None` for all.
    pub(super) keep: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    AllTime,
    Daily(Zone),
    Hourly(Zone),
    /// Of equal length, counted from 1970.
    Every(u64),
    /// The newest so many of equal length are one board.
    Sliding {
        slot: u64,
        slots: usize,
    },
    /// Epochs of [`EPOCH`] half-lives, which together are one board.
    Decaying {
        half_life: u64,
    },
}

impl Windows {
    /// One window without end.
    pub fn all_time() -> Self {
        Self { kind: Kind::AllTime, keep: None }
    }

    /// The days of a time zone.
    pub fn daily(zone: Zone) -> Self {
        Self { kind: Kind::Daily(zone), keep: None }
    }

    /// The hours of a time zone.
    pub fn hourly(zone: Zone) -> Self {
        Self { kind: Kind::Hourly(zone), keep: None }
    }

    /// Windows of equal length, counted from 1970-01-01 UTC; in whole milliseconds, at least one.
    pub fn every(length: Duration) -> Self {
        Self { kind: Kind::Every(millis(length)), keep: None }
    }

    /// The newest `slots` slots of this length as one board, which slides on by a slot; each slot is a window of its own too.
    pub fn sliding(slot: Duration, slots: usize) -> Self {
        Self { kind: Kind::Sliding { slot: millis(slot), slots: slots.max(1) }, keep: Some(slots.max(1)) }
    }

    /// One board in which everything is worth half as much after each `half_life`.
    ///
    /// What an event adds is rounded once, to the unit of the ranking's measure, at its own time; what has decayed for 32 half-lives
    /// is let go of.
    pub fn decaying(half_life: Duration) -> Self {
        Self { kind: Kind::Decaying { half_life: millis(half_life) }, keep: Some(4) }
    }

    /// Keeps only so many windows, the newest among them; at least one. All of them unless said here; a sliding ranking keeps at least
    /// its slots.
    pub fn keep(mut self, windows: usize) -> Self {
        let least = match self.kind {
            Kind::Sliding { slots, .. } => slots,
            Kind::Decaying { .. } => 4,
            _ => 1,
        };
        self.keep = Some(windows.max(least));
        self
    }

    /// Where the window begins that `at` belongs to.
    pub fn begin_of(&self, at: Timestamp) -> Timestamp {
        match &self.kind {
            Kind::AllTime => Timestamp(0),
            Kind::Daily(zone) => local(zone, at, 86_400_000),
            Kind::Hourly(zone) => local(zone, at, 3_600_000),
            Kind::Every(length) | Kind::Sliding { slot: length, .. } => Timestamp(at.0 / length * length),
            Kind::Decaying { half_life } => {
                let epoch = half_life.saturating_mul(u64::from(EPOCH));
                Timestamp(at.0 / epoch * epoch)
            }
        }
    }

    /// Whether several windows are one board.
    pub(super) fn joins(&self) -> bool {
        matches!(self.kind, Kind::Sliding { .. } | Kind::Decaying { .. })
    }

    /// Where the window before the one that begins at `begin` begins.
    pub(super) fn before(&self, begin: Timestamp) -> Option<Timestamp> {
        begin.0.checked_sub(1).map(|end| self.begin_of(Timestamp(end))).filter(|before| *before < begin)
    }

    /// Where the oldest window begins that is kept once the one at `newest` is.
    pub(super) fn oldest(&self, newest: Timestamp) -> Timestamp {
        let Some(keep) = self.keep else { return Timestamp(0) };
        let mut oldest = newest;
        for _ in 1..keep {
            match self.before(oldest) {
                Some(before) => oldest = before,
                None => break,
            }
        }
        oldest
    }

    /// The windows after `from` up to `to`, oldest first; without those between where they are more than can be meant.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let mut between = vec![to];
        let mut begin = to;
        while let Some(before) = self.before(begin).filter(|before| *before > from) {
            if between.len() > LONGEST_GAP {
                return vec![to];
            }
            between.push(before);
            begin = before;
        }
        between.reverse();
        between
    }

    /// What an event of `at` adds, as a factor; 1 but for decaying rankings.
    pub(super) fn growth(&self, at: Timestamp) -> f64 {
        match self.kind {
            Kind::Decaying { half_life } => libm::exp2((at.0 - self.begin_of(at).0) as f64 / half_life as f64),
            _ => 1.0,
        }
    }

    /// By how much what was added up in units of the window at `begin` has decayed at `now`, as a factor.
    pub(super) fn decay(&self, begin: Timestamp, now: Timestamp) -> f64 {
        match self.kind {
            Kind::Decaying { half_life } => libm::exp2(-((now.0.saturating_sub(begin.0)) as f64 / half_life as f64)),
            _ => 1.0,
        }
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX / 2).max(1)
}

/// Where the unit of local time begins that `at` belongs to: at its head by the local clock, or where the clocks were changed within it.
fn local(Zone(zone): &Zone, at: Timestamp, unit: i64) -> Timestamp {
    // Moments beyond the year 9999 have no local time; they belong to the last day there is.
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX).min(jiff::Timestamp::MAX.as_millisecond());
    let Ok(moment) = jiff::Timestamp::from_millisecond(millis) else { return at };
    let shift = |moment: jiff::Timestamp| i64::from(zone.to_offset(moment).seconds()) * 1_000;
    let begin = if unit == 86_400_000 {
        let day = moment.to_zoned(zone.clone()).start_of_day();
        day.map_or(millis, |day| day.timestamp().as_millisecond())
    } else {
        let offset = shift(moment);
        let begin = (millis + offset).div_euclid(unit) * unit - offset;
        let changed = jiff::Timestamp::from_millisecond(begin).is_ok_and(|begin| shift(begin) != offset);
        // Those before the next millisecond: the one at this very moment counts.
        let behind = jiff::Timestamp::from_millisecond(millis + 1).unwrap_or(moment);
        match zone.preceding(behind).next().filter(|_| changed) {
            Some(change) => change.timestamp().as_millisecond(),
            None => begin,
        }
    };
    Timestamp(u64::try_from(begin).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().expect("a moment");
        Timestamp(u64::try_from(moment.as_millisecond()).expect("since 1970"))
    }

    fn begins(windows: &Windows, from: &str, to: &str) -> Vec<u64> {
        windows.between(at(from), windows.begin_of(at(to))).iter().map(|begin| begin.0).collect()
    }

    #[test]
    fn days_have_23_and_25_hours_where_the_clocks_change() {
        let london = Windows::daily(Zone::named("Europe/London").expect("a zone"));
        assert_eq!(london.begin_of(at("2026-03-29T12:00:00Z")), at("2026-03-29T00:00:00Z"));
        assert_eq!(london.begin_of(at("2026-03-29T22:59:59.999Z")), at("2026-03-29T00:00:00Z"));
        assert_eq!(london.begin_of(at("2026-03-29T23:00:00Z")), at("2026-03-29T23:00:00Z"), "a day of 23 hours");
        assert_eq!(london.begin_of(at("2026-10-25T23:59:59.999Z")), at("2026-10-24T23:00:00Z"), "a day of 25 hours");
        assert_eq!(london.begin_of(at("2026-10-26T00:00:00Z")), at("2026-10-26T00:00:00Z"));
        // Midnight does not exist on this day: the clocks go from 00:00 to 01:00.
        let cairo = Windows::daily(Zone::named("Africa/Cairo").expect("a zone"));
        let day = cairo.begin_of(at("2026-04-24T12:00:00Z"));
        assert_eq!(day, at("2026-04-23T22:00:00Z"));
        assert_eq!(cairo.begin_of(Timestamp(day.0 - 1)), at("2026-04-22T22:00:00Z"));
    }

    #[test]
    fn hours_follow_each_other_through_every_change_of_the_clocks() {
        let london = Windows::hourly(Zone::named("Europe/London").expect("a zone"));
        let hours = begins(&london, "2026-10-24T21:30:00Z", "2026-10-25T04:00:00Z");
        assert!(hours.windows(2).all(|pair| pair[1] - pair[0] == 3_600_000), "the hour that comes twice is two");
        assert_eq!(hours.len(), 7);
        // Half an hour is added, and taken: one window of half an hour, or one and a half as two.
        let howe = Windows::hourly(Zone::named("Australia/Lord_Howe").expect("a zone"));
        for (from, to) in
            [("2026-04-04T12:00:00Z", "2026-04-04T18:00:00Z"), ("2026-10-03T12:00:00Z", "2026-10-03T18:00:00Z")]
        {
            let hours = begins(&howe, from, to);
            assert!(hours.windows(2).all(|pair| (1_800_000..=3_600_000).contains(&(pair[1] - pair[0]))), "{hours:?}");
            let mut moment = at(from);
            while moment < at(to) {
                let begin = howe.begin_of(moment);
                assert!(begin <= moment && howe.begin_of(begin) == begin, "{moment:?}");
                moment.0 += 600_000;
            }
        }
    }

    #[test]
    fn what_is_kept_is_counted_from_the_newest() {
        let days = Windows::daily(Zone::UTC).keep(3);
        assert_eq!(days.oldest(at("2026-03-10T00:00:00Z")), at("2026-03-08T00:00:00Z"));
        assert_eq!(Windows::daily(Zone::UTC).oldest(at("2026-03-10T00:00:00Z")), Timestamp(0));
        assert_eq!(Windows::all_time().begin_of(at("2026-03-10T00:00:00Z")), Timestamp(0));
        assert_eq!(Windows::all_time().before(Timestamp(0)), None);
        let ten = Windows::sliding(Duration::from_secs(60), 10).keep(2);
        assert_eq!(ten.oldest(Timestamp(6_000_000)), Timestamp(6_000_000 - 9 * 60_000), "never fewer than its slots");
    }

    #[test]
    fn an_unknown_zone_is_named() {
        let error = Zone::named("Europe/Londno").expect_err("no such zone");
        assert!(error.to_string().contains("Europe/Londno"), "{error}");
    }

    #[test]
    fn moments_beyond_all_calendars_have_a_window() {
        for zone in [Zone::UTC, Zone::named("Asia/Tokyo").expect("a zone")] {
            let _ = Windows::daily(zone.clone()).begin_of(Timestamp(u64::MAX));
            assert!(Windows::daily(zone.clone()).begin_of(Timestamp(0)) == Timestamp(0));
            assert!(Windows::hourly(zone).begin_of(Timestamp(0)) == Timestamp(0));
        }
    }
}
