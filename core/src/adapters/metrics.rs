//! Figures through the `metrics` facade, for whatever recorder the application installs.
//!
//! ```
//! use aftercommit::adapters::metrics::Metrics;
//! use aftercommit::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::builder().observer(Metrics::new()).start().await?;
//! Metrics::sample(&bus).await?; // where the figures are collected, for instance at each scrape
//! # Ok(())
//! # }
//! ```
//!
//! | name | kind | labels | what |
//! |---|---|---|---|
//! | `aftercommit_published_total` | counter | `event` | events published, those of units that rolled back included |
//! | `aftercommit_dead_events_total` | counter | `event` | events published that nobody listens to |
//! | `aftercommit_listener_duration_seconds` | histogram | `listener`, `event`, `failed` | calls of listeners, of whatever phase |
//! | `aftercommit_listener_failures_total` | counter | `listener`, `kind` | failed calls by kind: `conflict`, `lock timeout`, `panic`, .. or `error` |
//! | `aftercommit_listener_in_flight` | gauge | `listener` | calls under way |
//! | `aftercommit_metered_duration_seconds` | histogram | `name`, `failed` | calls that are `#[metered]` |
//! | `aftercommit_metered_failures_total` | counter | `name`, `kind` | failed calls by kind |
//! | `aftercommit_metered_in_flight` | gauge | `name` | calls under way |
//! | `aftercommit_after_errors_total` | counter | `listener` | after-phase listeners and hooks that failed |
//! | `aftercommit_delivered_total` | counter | `listener` | deliveries that a durable listener settled |
//! | `aftercommit_failed_total` | counter | `listener` | deliveries that failed |
//! | `aftercommit_redelivered_total` | counter | `listener` | deliveries that failed and are called again |
//! | `aftercommit_parked_total` | counter | `listener` | deliveries given up for now |
//! | `aftercommit_commit_duration_seconds` | histogram | `failed` | commits of units of work, waiting and sync included |
//! | `aftercommit_group_units` | histogram | | how many units were committed at once, as each of them saw it |
//! | `aftercommit_lock_wait_seconds` | histogram | `obtained` | waits for keyed locks that others held |
//! | `aftercommit_locked_keys` | gauge | | keys that are locked |
//! | `aftercommit_conflicts_total` | counter | | units of work that conflicted |
//! | `aftercommit_in_doubt_total` | counter | | units of work in doubt |
//! | `aftercommit_archive_failures_total` | counter | | times the archive could not be written to |
//! | `aftercommit_abandoned_total` | counter | | work given up, as the bus or its runtime ended first |
//! | `aftercommit_stopped_workers_total` | counter | `listener` | durable listeners that a storage error stopped |
//! | `aftercommit_skipped_total` | counter | `listener` | deliveries that a durable listener skipped |
//! | `aftercommit_discarded_total` | counter | `listener` | events removed for good without having been worked for |
//! | `aftercommit_stopped_listeners_total` | counter | `listener` | durable listeners that stopped until they are resumed |
//! | `aftercommit_worker_failures_total` | counter | `listener` | storage errors after which a durable listener goes on |
//! | `aftercommit_slow_total` | counter | `who` | times something was told to be slow, as `slow_after` asks |
//! | `aftercommit_lag` | gauge | `listener` | log positions a durable listener is behind |
//! | `aftercommit_oldest_age_seconds` | gauge | `listener` | age of the oldest event it has not settled; 0 if there is none |
//! | `aftercommit_store_bytes` | gauge | | what the store takes on the disk; missing where it does not know |
//!
//! With the feature `resilience`, of the policies that the bus knows:
//!
//! | name | kind | labels | what |
//! |---|---|---|---|
//! | `aftercommit_policy_refused_total` | counter | `kind`, `name` | calls not let through |
//! | `aftercommit_breaker_moved_total` | counter | `name`, `to` | transitions of circuit breakers, by the state they lead to |
//! | `aftercommit_retried_total` | counter | `name` | calls made again |
//! | `aftercommit_gave_up_total` | counter | `name` | calls not made again, as attempts, time or budget were used up |
//! | `aftercommit_timed_out_total` | counter | `name` | calls dropped, as they took too long |
//! | `aftercommit_fell_back_total` | counter | `name` | answers of fallbacks |
//! | `aftercommit_breaker_state` | gauge | `name`, `state` | 1 for the state a circuit breaker is in, 0 for the others |
//! | `aftercommit_breaker_failure_rate` | gauge | `name` | percent of calls that failed; missing while it is unknown |
//! | `aftercommit_bulkhead_calls` | gauge | `name` | calls under way |
//! | `aftercommit_policy_waiting` | gauge | `kind`, `name` | callers that wait for a bulkhead or a rate limiter |
//! | `aftercommit_permits` | gauge | `name` | permits that a rate limiter has left; below zero if some are reserved |
//!
//! All gauges but those of calls under way are set by [`Metrics::sample`], as nothing happens on a bus that is stuck. Everything else is counted when it happens,
//! which every publish and every call of a listener pays for.

#[cfg(feature = "resilience")]
mod policies;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::bus::Bus;
use crate::error::Error;
use crate::observe::{Measure, Notice, Observer};

/// An observer that counts and measures through the `metrics` facade.
///
/// Recorders are looked up at each figure, so that it does not matter which comes first, the recorder or the bus.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Metrics {}

impl Metrics {
    /// Describes the figures to the recorder that is installed by now.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        describe_counter!("aftercommit_published_total", "events published, those of units that rolled back included");
        describe_counter!("aftercommit_dead_events_total", "events published that nobody listens to");
        describe_counter!("aftercommit_not_called_total", "listeners of a phase not called with a scheduled event");
        describe_histogram!("aftercommit_listener_duration_seconds", metrics::Unit::Seconds, "calls of listeners");
        describe_counter!("aftercommit_listener_failures_total", "failed calls of listeners, by kind");
        describe_gauge!("aftercommit_listener_in_flight", "calls of listeners under way");
        describe_histogram!("aftercommit_metered_duration_seconds", metrics::Unit::Seconds, "metered calls");
        describe_counter!("aftercommit_metered_failures_total", "failed metered calls, by kind");
        describe_gauge!("aftercommit_metered_in_flight", "metered calls under way");
        describe_counter!("aftercommit_after_errors_total", "after-phase listeners and hooks that failed");
        describe_counter!("aftercommit_delivered_total", "deliveries that a durable listener settled");
        describe_counter!("aftercommit_failed_total", "deliveries that failed");
        describe_counter!("aftercommit_redelivered_total", "deliveries that failed and are called again");
        describe_counter!("aftercommit_parked_total", "deliveries given up for now");
        describe_histogram!(
            "aftercommit_commit_duration_seconds",
            metrics::Unit::Seconds,
            "commits of units of work, waiting and sync included"
        );
        describe_histogram!("aftercommit_group_units", "units of work committed at once, as each of them saw it");
        describe_histogram!(
            "aftercommit_lock_wait_seconds",
            metrics::Unit::Seconds,
            "waits for keyed locks that others held"
        );
        describe_gauge!("aftercommit_locked_keys", "keys that are locked");
        describe_counter!("aftercommit_conflicts_total", "units of work that conflicted");
        describe_counter!("aftercommit_in_doubt_total", "units of work in doubt");
        describe_counter!("aftercommit_archive_failures_total", "times the archive could not be written to");
        describe_counter!("aftercommit_abandoned_total", "work given up, as the bus or its runtime ended first");
        describe_counter!("aftercommit_stopped_workers_total", "durable listeners that a storage error stopped");
        describe_counter!("aftercommit_skipped_total", "deliveries that a durable listener skipped");
        describe_counter!("aftercommit_discarded_total", "events removed for good without having been worked for");
        describe_counter!(
            "aftercommit_stopped_listeners_total",
            "durable listeners that stopped until they are resumed"
        );
        describe_counter!("aftercommit_worker_failures_total", "storage errors after which a durable listener goes on");
        describe_counter!("aftercommit_slow_total", "times something was told to be slow");
        describe_gauge!("aftercommit_lag", "log positions a durable listener is behind");
        describe_gauge!(
            "aftercommit_oldest_age_seconds",
            metrics::Unit::Seconds,
            "age of the oldest event a durable listener has not settled"
        );
        #[cfg(feature = "resilience")]
        policies::describe();
        describe_gauge!("aftercommit_store_bytes", metrics::Unit::Bytes, "what the store takes on the disk");
        Self {}
    }

    /// Sets the gauges to what holds now: lag and oldest age of each durable listener, locked keys, and the
    /// size of the store.
    ///
    /// Reads at most one event of the log for each durable listener.
    ///
    /// # Errors
    /// The store's.
    pub async fn sample(bus: &Bus) -> Result<(), Error> {
        for lag in bus.lags().await? {
            let age = lag.oldest_age.unwrap_or_default().as_secs_f64();
            gauge!("aftercommit_lag", "listener" => lag.listener.clone()).set(lag.behind as f64);
            gauge!("aftercommit_oldest_age_seconds", "listener" => lag.listener).set(age);
        }
        #[cfg(feature = "resilience")]
        policies::sample(&bus.policies());
        gauge!("aftercommit_locked_keys").set(bus.locked_keys() as f64);
        if let Some(bytes) = bus.store_size() {
            gauge!("aftercommit_store_bytes").set(bytes as f64);
        }
        Ok(())
    }
}

impl Observer for Metrics {
    fn notice(&self, notice: &Notice<'_>) {
        match notice {
            Notice::DeadEvent { event } => {
                counter!("aftercommit_dead_events_total", "event" => event.to_string()).increment(1);
            }
            Notice::NotCalled { listener, .. } => {
                counter!("aftercommit_not_called_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::AfterFailed { error, .. } => {
                counter!("aftercommit_after_errors_total", "listener" => error.who.clone()).increment(1);
            }
            Notice::Redelivery { listener, .. } => {
                counter!("aftercommit_redelivered_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::Parked { listener, .. } => {
                counter!("aftercommit_parked_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::WorkerStopped { listener, .. } => {
                counter!("aftercommit_stopped_workers_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::Skipped { listener, .. } => {
                counter!("aftercommit_skipped_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::Discarded { listener, .. } => {
                counter!("aftercommit_discarded_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::ListenerStopped { listener, .. } => {
                counter!("aftercommit_stopped_listeners_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::WorkerFailed { listener, .. } => {
                counter!("aftercommit_worker_failures_total", "listener" => listener.to_string()).increment(1);
            }
            Notice::Slow { who, .. } => counter!("aftercommit_slow_total", "who" => who.to_string()).increment(1),
            Notice::Conflict { .. } => counter!("aftercommit_conflicts_total").increment(1),
            Notice::InDoubt { .. } => counter!("aftercommit_in_doubt_total").increment(1),
            Notice::ArchiveFailed { .. } => counter!("aftercommit_archive_failures_total").increment(1),
            Notice::Abandoned { .. } => counter!("aftercommit_abandoned_total").increment(1),
            #[cfg(feature = "resilience")]
            Notice::Policy(event) => policies::count(event),
            Notice::NestedAsWritten { .. } | Notice::Warning(_) => {}
        }
    }

    fn measure(&self, measure: &Measure<'_>) {
        match *measure {
            Measure::Published { event } => counter!("aftercommit_published_total", "event" => event).increment(1),
            Measure::Called { listener, event, took, failed } => {
                if let Some(kind) = failed {
                    let listener = listener.to_owned();
                    counter!("aftercommit_listener_failures_total", "listener" => listener, "kind" => kind)
                        .increment(1);
                }
                let failed = if failed.is_some() { "true" } else { "false" };
                gauge!("aftercommit_listener_in_flight", "listener" => listener.to_owned()).decrement(1.0);
                histogram!(
                    "aftercommit_listener_duration_seconds",
                    "listener" => listener.to_owned(), "event" => event, "failed" => failed
                )
                .record(took);
            }
            Measure::Calling { listener, event: _ } => {
                gauge!("aftercommit_listener_in_flight", "listener" => listener.to_owned()).increment(1.0);
            }
            Measure::Entered { name } => {
                gauge!("aftercommit_metered_in_flight", "name" => name.to_owned()).increment(1.0);
            }
            Measure::Left { name, took, failed } => {
                if let Some(kind) = failed {
                    let (name, kind) = (name.to_owned(), kind.to_owned());
                    counter!("aftercommit_metered_failures_total", "name" => name, "kind" => kind).increment(1);
                }
                let failed = if failed.is_some() { "true" } else { "false" };
                gauge!("aftercommit_metered_in_flight", "name" => name.to_owned()).decrement(1.0);
                histogram!("aftercommit_metered_duration_seconds", "name" => name.to_owned(), "failed" => failed)
                    .record(took);
            }
            Measure::Delivered { listener } => {
                counter!("aftercommit_delivered_total", "listener" => listener.to_owned()).increment(1);
            }
            Measure::Failed { listener } => {
                counter!("aftercommit_failed_total", "listener" => listener.to_owned()).increment(1);
            }
            Measure::Waited { took, obtained } => {
                let obtained = if obtained { "true" } else { "false" };
                histogram!("aftercommit_lock_wait_seconds", "obtained" => obtained).record(took);
            }
            Measure::Committed { took, group, failed } => {
                let failed = if failed { "true" } else { "false" };
                histogram!("aftercommit_commit_duration_seconds", "failed" => failed).record(took);
                if group > 0 {
                    histogram!("aftercommit_group_units").record(group as f64);
                }
            }
        }
    }

    fn is_measuring(&self) -> bool {
        true
    }
}
