//! Who holds or waits: a name to show, and an identity that waits are followed by.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::table::Party;

/// One who holds several locks at once, such as a unit of work; clones are the same one.
///
/// Locks that were asked for [`by`](super::Request::by) an owner are followed: if owners wait for each other in a circle, the last
/// of them is told ([`LockError::Deadlock`](crate::error::LockError::Deadlock)) instead of waiting for ever.
///
/// An owner waits for one lock at a time.
#[derive(Debug, Clone)]
pub struct Owner(Arc<str>);

impl Owner {
    /// An owner that is shown under this name; another of the same name is another owner.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        let name: Arc<str> = name.into();
        // A copy of its own, which is its identity.
        Self(Arc::from(&*name))
    }

    /// What identifies it as long as it lives.
    pub(super) fn id(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Who asked, and where in the source.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(super) owner: Option<Owner>,
    pub(super) at: &'static Location<'static>,
}

impl Party for Who {
    #[inline]
    fn is_same(&self, other: &Self) -> bool {
        match (&self.owner, &other.owner) {
            (Some(one), Some(other)) => one.id() == other.id(),
            _ => false,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(owner) = &self.owner {
            write!(out, "{owner}, ")?;
        }
        write!(out, "{}:{}", self.at.file(), self.at.line())
    }
}
