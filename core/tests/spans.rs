//! Spans around units of work and listener calls, linked across the asynchronous border.
//!
//! A test binary of its own, whose one subscriber is everybody's: whether a span is of interest is asked once per place in
//! the code, on whatever thread comes there first, and a thread that has no subscriber would answer no for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::event::{Event, Stored, StoredEvent};
use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

#[derive(Clone, Serialize, Deserialize)]
struct Placed(u64);

impl Event for Placed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("spans.placed"));
}
impl StoredEvent for Placed {}

/// What a span said of itself, by the listener it belongs to, or by its name.
#[derive(Debug, Clone, Default)]
struct Seen {
    fields: HashMap<&'static str, String>,
    parent: Option<Id>,
    follows: Vec<Id>,
}

/// Every span in the order in which they began: ids are used again once a span has closed.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(Id, Seen)>>>);

impl Spans {
    /// The first span whose `field` is `value`, and the span it began in.
    fn of(&self, field: &str, value: &str) -> (Seen, Option<Seen>) {
        let seen = self.0.lock().expect("no test panicked");
        let at = seen.iter().position(|(_, span)| span.fields.get(field).is_some_and(|text| text == value));
        let at = at.unwrap_or_else(|| panic!("no span {field} = {value} in {seen:?}"));
        let (_, span) = &seen[at];
        let parent = seen[..at].iter().rev().find(|(id, _)| Some(id) == span.parent.as_ref());
        (span.clone(), parent.map(|(_, parent)| parent.clone()))
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.0.lock().expect("no test panicked");
        if let Some((_, span)) = seen.iter_mut().rev().find(|(known, _)| known == id) {
            change(span);
        }
    }
}

struct Fields<'a>(&'a mut HashMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Spans
where
    S: for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut span = Seen { parent: context.current_span().id().cloned(), ..Seen::default() };
        span.fields.insert("name", attributes.metadata().name().to_owned());
        attributes.record(&mut Fields(&mut span.fields));
        self.0.lock().expect("no test panicked").push((id.clone(), span));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |span| values.record(&mut Fields(&mut span.fields)));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.follows.push(follows.clone()));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn listeners_run_in_spans_that_are_linked_to_where_their_event_was_published() -> Result<(), BoxError> {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::set_global_default(subscriber)?;
    let bus = Bus::builder()
        .listener(listener::on::<Placed>("at-once").phase(Phase::Immediate).call(|_| ()))
        .listener(listener::on::<Placed>("in-the-background").spawn().call_async(|_, _| {
            CallFuture::from_or_box(async {
                tokio::task::yield_now().await;
                Ok(None)
            })
        }))
        .listener(listener::on::<Placed>("owed").durable().call(|_| ()))
        .start()
        .await?;
    bus.transaction(async |tx| tx.publish(Placed(1))).await?;
    bus.idle().await;
    bus.shutdown(Duration::from_secs(60)).await?;

    let (at_once, parent) = spans.of("listener", "at-once");
    let parent = parent.expect("an immediate listener runs inside a span");
    assert_eq!(parent.fields["name"], "unit of work", "an immediate listener runs inside the unit's span");
    for elsewhere in ["in-the-background", "owed"] {
        let (span, _) = spans.of("listener", elsewhere);
        assert_eq!(span.follows.first(), at_once.parent.as_ref(), "{elsewhere} is linked to the publisher");
        assert_eq!(
            span.fields.get("correlation"),
            at_once.fields.get("correlation"),
            "{elsewhere} is of the same chain"
        );
        assert_eq!(span.fields["event"], "spans.placed");
    }
    Ok(())
}
