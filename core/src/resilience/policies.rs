//! Named pipelines together: configured from a file, looked at, listened to.

mod file;
mod health;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::event::Told;
use super::pipeline::Pipeline;
use super::policy::Policy;
use crate::error::InvalidPolicy;

pub use file::PolicyFile;
pub use health::{Health, PolicyHealth};

/// The pipelines of an application by name; clones are the same ones.
///
/// What is declared in the source are the defaults. A file, of whatever format serde knows, says some of it differently:
///
/// ```
/// use std::time::Duration;
/// use aftercommit::resilience::{BreakerSettings, Pipeline, Policies, PolicyFile, RetrySettings};
///
/// let gateway = Pipeline::named("gateway")
///     .retry(RetrySettings::new().attempts(3))
///     .circuit_breaker(BreakerSettings::new().open_for(Duration::from_secs(60)))
///     .build()?;
/// let policies = Policies::new();
/// policies.add(&gateway)?;
///
/// let file: PolicyFile = serde_json::from_str(
///     r#"{ "gateway": { "retry": { "attempts": 5 }, "circuit-breaker": { "open_for": "10s" } } }"#,
/// )?;
/// policies.apply(&file)?;
/// assert!(gateway.to_string().contains("5 attempts"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Policies(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// By name, in the order in which they came.
    pipelines: Vec<Pipeline>,
    hearers: Vec<Told>,
}

impl Policies {
    /// No pipelines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pipeline; one that is there already stays.
    ///
    /// # Errors
    /// If another has its name.
    pub fn add(&self, pipeline: &Pipeline) -> Result<(), InvalidPolicy> {
        let mut inner = self.0.lock();
        if let Some(known) = inner.pipelines.iter().find(|known| known.name() == pipeline.name()) {
            if known.is(pipeline) {
                return Ok(());
            }
            let reason = "another pipeline has its name: give one of them another, so that a file can name each";
            return Err(InvalidPolicy::new(format!("pipeline `{}`", pipeline.name()), reason));
        }
        let hearers = inner.hearers.clone();
        // A policy that several pipelines share is heard once.
        let known: Vec<_> = inner.pipelines.iter().flat_map(|known| known.policies()).cloned().collect();
        inner.pipelines.push(pipeline.clone());
        drop(inner);
        let new = pipeline.policies().iter().filter(|policy| !known.iter().any(|known| known.is(policy)));
        for policy in new {
            hearers.iter().for_each(|told| policy.hear(told.clone()));
        }
        Ok(())
    }

    /// The pipelines, in the order in which they came.
    pub fn pipelines(&self) -> Vec<Pipeline> {
        self.0.lock().pipelines.clone()
    }

    /// The pipeline of this name.
    pub fn get(&self, name: &str) -> Option<Pipeline> {
        self.0.lock().pipelines.iter().find(|pipeline| pipeline.name() == name).cloned()
    }

    /// Each policy once, also where several pipelines share it.
    pub fn each(&self) -> Vec<Policy> {
        each(&self.pipelines()).cloned().collect()
    }

    /// Tells `told` what happens out of the ordinary in all policies from now on, also in those that come later: everything but calls
    /// that are let through and come back.
    pub fn hear(&self, told: &Told) {
        let mut inner = self.0.lock();
        inner.hearers.push(told.clone());
        let pipelines = inner.pipelines.clone();
        drop(inner);
        each(&pipelines).for_each(|policy| policy.hear(told.clone()));
    }
}

/// Each policy once, also where several pipelines share it.
fn each(pipelines: &[Pipeline]) -> impl Iterator<Item = &Policy> {
    let all: Vec<_> = pipelines.iter().flat_map(|pipeline| pipeline.policies()).collect();
    let first = |at: usize| !all[..at].iter().any(|before| before.is(all[at]));
    (0..all.len()).filter(|at| first(*at)).map(|at| all[at]).collect::<Vec<_>>().into_iter()
}

/// Each pipeline as it displays itself.
impl fmt::Display for Policies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pipelines().iter().try_for_each(|pipeline| pipeline.fmt(out))
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.pipelines()).finish()
    }
}
