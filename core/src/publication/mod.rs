//! Publications: one event owed to one listener, and what became of it.
//!
//! Nothing of it is stored as such. A [`View`] reads the log beside what each durable listener has settled, what waits to be
//! called again, what is parked and what was given up, and says of each event and listener in which [`Stage`] they are.
//! What runs right now only a bus knows, which lends the view its desks.
//!
//! What it cannot say: who handled what is done, when, and after how many calls, for "done" is a cursor's word; and anything of
//! an event that was pruned, unless it is parked or was given up. Listeners that are not durable are owed nothing.

mod counts;
mod desk;
mod offline;
mod query;
mod scan;
mod stage;
mod story;
mod view;

pub use counts::{Counts, ListenerCounts, Overview};
pub(crate) use desk::Desk;
pub use desk::Underway;
pub use offline::{Asked, Offline};
pub use query::Query;
pub use stage::{Publication, Stage, Status};
pub use story::{Caused, Held, Story};
pub(crate) use view::OnDesk;
pub use view::{Mark, Page, View};
