//! Which run a data directory belongs to: the text of its log and the way its rows are scored.
//!
//! The identity is kept with the data and checked before anything is added to it, so that two logs, or one log under
//! two weightings, never mix in the same sums.
//! Where it is kept is left to [`app`](crate::app).

use serde::{Deserialize, Serialize};

use crate::log::{Content, LogError, Source};
use crate::score::Scoring;

/// The rules by which this version cuts a log into units and scores it.
///
/// Raised whenever the same log would be worked off differently, so that an older run is not continued by other rules.
const RULES: u32 = 2;

/// The identity of a run.
///
/// The same for a log and its compressed copy, under any file name;
/// what is shown of the result and whether bad units are skipped are no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunId {
    rules: u32,
    content: Content,
    scoring: Scoring,
    /// For messages only.
    log: String,
}

/// Why a run cannot be continued on a data directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunMismatch {
    /// The directory holds another log.
    #[error(
        "the data is from another log, {stored} ({stored_content}), not from {given} ({given_content}): \
         use another directory"
    )]
    Log {
        /// The log the directory was filled from, by the name it had then.
        stored: String,
        /// Its text.
        stored_content: Content,
        /// The log asked for.
        given: String,
        /// Its text.
        given_content: Content,
    },
    /// The directory holds this log scored otherwise.
    #[error("the data was scored by {stored}, not by {given}: use another directory or the same weights")]
    Scoring {
        /// The weights the directory was filled by.
        stored: Scoring,
        /// The weights asked for.
        given: Scoring,
    },
    /// The directory was filled by other rules.
    #[error(
        "the data was made by version {stored} of the replay's rules, this is version {given}: use another directory"
    )]
    Rules {
        /// The rules the directory was filled by.
        stored: u32,
        /// The rules of this program.
        given: u32,
    },
}

impl RunId {
    /// Identifies the run of a log under a scoring; reads the log once, to its end.
    ///
    /// # Errors
    /// If the log cannot be read; see [`Source::content`].
    pub fn new(source: &Source, scoring: &Scoring) -> Result<Self, LogError> {
        Ok(Self { rules: RULES, content: source.content()?, scoring: *scoring, log: source.name() })
    }

    /// The text of the log, its lines among it.
    pub fn content(&self) -> Content {
        self.content
    }

    /// The name the log had.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// How its rows are scored.
    pub fn scoring(&self) -> Scoring {
        self.scoring
    }

    /// Whether the run asked for may go on where the run of `self`, which a directory holds, left off.
    ///
    /// # Errors
    /// What differs, in words for the user.
    pub fn admits(&self, asked: &Self) -> Result<(), RunMismatch> {
        if self.rules != asked.rules {
            return Err(RunMismatch::Rules { stored: self.rules, given: asked.rules });
        }
        if self.content != asked.content {
            return Err(RunMismatch::Log {
                stored: self.log.clone(),
                stored_content: self.content,
                given: asked.log.clone(),
                given_content: asked.content,
            });
        }
        if self.scoring != asked.scoring {
            return Err(RunMismatch::Scoring { stored: self.scoring, given: asked.scoring });
        }
        Ok(())
    }
}
