//! What is said on the command line, by place.

use std::fmt::Debug;
use std::str::FromStr;

/// The words behind the bench's name.
pub struct Arguments(Vec<String>);

impl Arguments {
    /// Those of this process, without what cargo adds.
    pub fn of_this_process() -> Self {
        Self(std::env::args().skip(1).filter(|argument| argument != "--bench").collect())
    }

    /// The word at this place, or `default`.
    ///
    /// # Panics
    /// If it is of another kind.
    pub fn at<T: FromStr<Err: Debug>>(&self, place: usize, default: T) -> T {
        self.0.get(place).map_or(default, |word| word.parse().expect("an argument of its kind"))
    }

    /// The words from this place on.
    pub fn from(&self, place: usize) -> &[String] {
        self.0.get(place..).unwrap_or_default()
    }
}
