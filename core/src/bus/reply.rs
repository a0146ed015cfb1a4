//! Answers that are events.

use std::any::Any;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Core;
use crate::error::Error;
use crate::event::Event;
use crate::listener::{IntoAnswer, Publish};
use crate::transaction::{Answered, Descent, Reply, Tx};

impl<E: Event> IntoAnswer for Publish<E> {
    const REPLIES: bool = true;

    fn into_answer(self) -> Answered {
        Ok(Some(Box::new(Replies(vec![self.0]))))
    }
}

impl<E: Event> IntoAnswer for Vec<Publish<E>> {
    const REPLIES: bool = true;

    fn into_answer(self) -> Answered {
        if self.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Replies(self.into_iter().map(|reply| reply.0).collect()))))
    }
}

impl<E: Event, const N: usize> IntoAnswer for [Publish<E>; N] {
    const REPLIES: bool = true;

    fn into_answer(self) -> Answered {
        Vec::from(self).into_answer()
    }
}

/// Events a listener answered with, in their order.
struct Replies<E>(Vec<E>);

impl<E: Event> Reply for Replies<E> {
    fn publish(self: Box<Self>, tx: &mut Tx) -> Result<(), Error> {
        self.0.into_iter().try_for_each(|event| tx.publish(event))
    }

    fn publish_without_tx(self: Box<Self>, host: &Arc<dyn Any + Send + Sync>, descent: Descent) -> Result<(), Error> {
        match host.clone().downcast::<Core>() {
            Ok(core) => self.0.iter().try_for_each(|event| core.publish_without_tx(event, descent)),
            Err(_) => Ok(()),
        }
    }

    fn publish_alone(
        self: Box<Self>,
        host: Arc<dyn Any + Send + Sync>,
        descent: Descent,
    ) -> BoxFuture<'static, Result<(), Error>> {
        async move {
            let Ok(core) = host.downcast::<Core>() else { return Ok(()) };
            core.check_depth::<E>(descent.depth)?;
            let published = core.unit(descent.origin, async |tx| {
                tx.set_depth(descent.depth);
                self.publish(tx)
            });
            published.await.map(|_| ())
        }
        .boxed()
    }
}
