//! A ranking that cannot do what was asked.

/// Why a score, a weight, a board or a ranking was refused. What it was asked to change is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RankingError {
    /// The number is no number, or infinite.
    #[error("{value} is no score: scores are finite numbers")]
    NotFinite {
        /// What was given: `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// The number, or the sum it was added to, does not fit 64 bits at the declared decimals.
    #[error("{what} does not fit a score of {decimals} decimals")]
    Overflow {
        /// What was computed.
        what: String,
        /// How many decimals were declared.
        decimals: u8,
    },
    /// The sum of two scores does not fit 64 bits.
    #[error("{score} and {delta} units do not sum to a score")]
    Sum {
        /// What was there.
        score: i64,
        /// What was to be added.
        delta: i64,
    },
    /// The text is no decimal number of the declared places.
    #[error("`{text}` is no decimal number of at most {decimals} places")]
    NotDecimal {
        /// What was given.
        text: String,
        /// How many places are allowed.
        decimals: u8,
    },
    /// A board holds as many items as it can.
    #[error("the board is full: {items} items")]
    Full {
        /// How many there are.
        items: usize,
    },
    /// The event belongs to a window that is not kept any more.
    #[error("the event is of {at}, the oldest window that is kept begins at {oldest} (milliseconds since 1970)")]
    TooLate {
        /// The event's time in milliseconds since 1970-01-01 UTC.
        at: u64,
        /// Where the oldest window that is kept begins.
        oldest: u64,
    },
    /// The event belongs to a window too far ahead of the clock: it would push out what is kept.
    #[error("the event is of {at}, the clock says {now} (milliseconds since 1970)")]
    TooEarly {
        /// The event's time in milliseconds since 1970-01-01 UTC.
        at: u64,
        /// What the clock says.
        now: u64,
    },
    /// There is no time zone of this name.
    #[error("there is no time zone `{name}`: {cause}")]
    UnknownZone {
        /// What was given.
        name: String,
        /// What the database of zones says.
        cause: String,
    },
    /// What was declared cannot work.
    #[error("ranking `{ranking}` cannot be: {reason}")]
    Declaration {
        /// Its name.
        ranking: String,
        /// Why, in words.
        reason: String,
    },
    /// There is no such source of scores.
    #[error("ranking `{ranking}` has no source `{source_name}`; it has: {known}")]
    UnknownSource {
        /// The ranking's name.
        ranking: String,
        /// What was asked for.
        source_name: String,
        /// Those there are.
        known: String,
    },
}
