//! Who listens to what, when, in which order: as text and as a picture.

use std::fmt::{self, Display, Write};

use crate::listener::{Descriptor, Mode, WithoutTx};

/// The listeners of a bus, sorted by event, phase, order and id.
///
/// As text by its `Display`; as a Mermaid flow chart by [`mermaid`](Self::mermaid).
#[derive(Debug, Clone)]
pub struct Description {
    listeners: Vec<Descriptor>,
}

impl Description {
    pub(super) fn new(listeners: Vec<Descriptor>) -> Self {
        Self { listeners }
    }

    /// The listeners in the order in which they are called, event by event.
    pub fn listeners(&self) -> &[Descriptor] {
        &self.listeners
    }

    /// A Mermaid flow chart: events on the left, their listeners on the right, the phase on the arrow.
    pub fn mermaid(&self) -> String {
        let mut chart = String::from("flowchart LR\n");
        let mut events: Vec<&str> = Vec::new();
        for (number, listener) in self.listeners.iter().enumerate() {
            let event = events.iter().position(|known| *known == listener.event).unwrap_or_else(|| {
                let _ = writeln!(chart, "    e{}([\"{}\"])", events.len(), escaped(listener.event));
                events.push(listener.event);
                events.len() - 1
            });
            let _ = writeln!(chart, "    e{event} -->|{}| l{number}[\"{}\"]", when(listener), escaped(&listener.id));
        }
        chart
    }
}

fn escaped(text: &str) -> String {
    text.replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

fn when(listener: &Descriptor) -> &'static str {
    if listener.durable.is_some() { "durable" } else { listener.phase.name() }
}

impl Display for Description {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut event = None;
        for listener in &self.listeners {
            if event != Some(listener.event) {
                event = Some(listener.event);
                writeln!(out, "{}", listener.event)?;
            }
            write!(out, "  {:<15} {}", when(listener), listener.id)?;
            for remark in remarks(listener) {
                write!(out, ", {remark}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn remarks(listener: &Descriptor) -> Vec<String> {
    let mut remarks = Vec::new();
    remarks.extend(listener.order.map(|order| format!("order {order}")));
    if listener.conditional {
        remarks.push("on a condition".to_owned());
    }
    match (listener.mode, listener.is_async) {
        (Mode::Spawned, _) => remarks.push("in the background".to_owned()),
        (Mode::Blocking, _) => remarks.push("on the blocking pool".to_owned()),
        (Mode::InPlace, true) => remarks.push("awaited".to_owned()),
        (Mode::InPlace, false) => {}
    }
    if listener.without_tx == WithoutTx::Run {
        remarks.push("also without a unit of work".to_owned());
    }
    remarks.extend(listener.resilient.as_ref().map(|nesting| format!("through {nesting}")));
    if let Some(durable) = &listener.durable {
        let exactly = if listener.wants_tx { "exactly once" } else { "at least once" };
        let exactly = if listener.wants_delivery { "at least once, settled exactly once" } else { exactly };
        remarks.push(exactly.to_owned());
        remarks.push(format!("{} at a time", durable.concurrency));
        remarks.push(format!("{} attempts", durable.redeliver.attempts));
        remarks.extend(durable.time_limit.map(|limit| format!("at most {limit:?} a call")));
    }
    remarks
}
