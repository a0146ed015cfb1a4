//! The five phases of a unit of work, and its outcomes.

/// When a listener runs, in relation to the unit of work in which the event is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Phase {
    /// At once, before publish returns. An error reaches the publisher and rolls its unit of work back.
    Immediate,
    /// Before the commit, in the publisher's unit of work. An error rolls it back.
    BeforeCommit,
    /// Once the commit stands. An error changes nothing and comes back beside the committed value.
    #[default]
    AfterCommit,
    /// Once the unit of work has rolled back.
    AfterRollback,
    /// Once the unit of work has ended, however it ended; the last of all.
    AfterCompletion,
}

impl Phase {
    /// The phases in the order in which they come.
    pub const ALL: [Phase; 5] =
        [Phase::Immediate, Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterRollback, Phase::AfterCompletion];

    /// The phase's name, as in the `phase` argument of a listener.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Immediate => "Immediate",
            Phase::BeforeCommit => "BeforeCommit",
            Phase::AfterCommit => "AfterCommit",
            Phase::AfterRollback => "AfterRollback",
            Phase::AfterCompletion => "AfterCompletion",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// How a unit of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its rows and events are stored.
    Committed,
    /// Nothing of it is stored.
    RolledBack,
    /// The storage failed after the unit was handed over; nobody knows.
    InDoubt,
}

/// A place among the listeners and hooks of one phase: ascending, those without one last, equals by the time of enlisting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(i64);

impl Order {
    /// Before every explicit order, and before the locks of the unit of work are released.
    pub(crate) const FIRST: Order = Order(i64::MIN);

    /// After every explicit order.
    pub const LAST: Order = Order(i64::MAX);
}

impl Default for Order {
    fn default() -> Self {
        Order::LAST
    }
}

impl From<i32> for Order {
    fn from(order: i32) -> Self {
        Order(i64::from(order))
    }
}

impl From<Option<i32>> for Order {
    fn from(order: Option<i32>) -> Self {
        order.map_or(Order::LAST, Order::from)
    }
}
