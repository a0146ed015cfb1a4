//! An event that could not be published.

use super::BoxError;

/// Why an event was not published. Nothing was delivered or stored, except what listeners before the failing one did themselves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Published without a unit of work, but these listeners need one and did not say `without_tx = run`.
    #[error("event `{event}` was published without a unit of work, but {}", needing(.listeners))]
    NeedsUnit {
        /// The event's name.
        event: String,
        /// The ids of the listeners; none if the event is `logged` and nobody but the log needs its commit.
        listeners: Vec<String>,
    },
    /// The event could not be written in its stored form.
    #[error("event `{event}` cannot be stored")]
    Encode {
        /// The event's name.
        event: String,
        /// What the codec said.
        #[source]
        cause: BoxError,
    },
    /// The event's stored form is larger than the bus allows.
    #[error("event `{event}` takes {bytes} bytes, more than the {limit} the bus allows")]
    TooLarge {
        /// The event's name.
        event: String,
        /// Its stored size.
        bytes: usize,
        /// The bus's limit.
        limit: usize,
    },
    /// Published for later, but these listeners belong to a phase of the unit of work that publishes; when it is due there is none.
    #[error("event `{event}` was published for later, but {}", in_phases(.listeners))]
    NotForLater {
        /// The event's name.
        event: String,
        /// The ids of the listeners.
        listeners: Vec<String>,
    },
    /// `publish_all` stopped: the listener failed on the event at `index`; earlier listeners saw the whole slice.
    #[error("publishing a slice stopped at index {index}")]
    AtIndex {
        /// The index of the event in the slice.
        index: usize,
        /// What happened to it.
        #[source]
        cause: Box<super::Error>,
    },
    /// Listeners answered with events that brought more events, without end.
    #[error("replies went {depth} deep: {}", .cycle.join(" -> "))]
    TooDeep {
        /// The limit that was reached.
        depth: usize,
        /// The names of the last events, each caused by the one before it.
        cycle: Vec<String>,
    },
    /// The bus has been told to stop.
    #[error("event `{event}` was refused: the bus is shutting down")]
    ShuttingDown {
        /// The event's name.
        event: String,
    },
}

fn in_phases(listeners: &[String]) -> String {
    let ids = listeners.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let belong = if listeners.len() == 1 { "belongs" } else { "belong" };
    format!("{ids} {belong} to a phase of the unit of work that publishes: make durable, or listen to another event")
}

fn needing(listeners: &[String]) -> String {
    const PUBLISH: &str = "publish it in `bus.transaction(async |tx| tx.publish(..))`";
    let ids = listeners.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    match listeners.len() {
        0 => format!("it is `logged` and stored with a commit: {PUBLISH}"),
        1 => format!("{ids} needs one: {PUBLISH}, or let the listener say `without_tx = run` if it is not durable"),
        _ => format!("{ids} need one: {PUBLISH}, or let those that are not durable say `without_tx = run`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_a_unit_of_work_is_named_with_what_to_do() {
        fn check(listeners: &[&str], expected: &str) {
            let listeners = listeners.iter().map(|&id| id.to_owned()).collect();
            let told = PublishError::NeedsUnit { event: "e".to_owned(), listeners }.to_string();
            assert!(told.contains(expected), "{told}");
            assert!(told.contains("publish it in `bus.transaction("), "{told}");
        }
        check(&[], "it is `logged` and stored with a commit");
        check(&["a"], "but `a` needs one");
        check(&["a", "b"], "but `a`, `b` need one");
        let late = PublishError::NotForLater { event: "e".to_owned(), listeners: vec!["a".to_owned()] };
        assert!(late.to_string().contains("published for later, but `a` belongs to a phase"), "{late}");
    }
}
