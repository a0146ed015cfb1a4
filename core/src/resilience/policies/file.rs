//! What a file says of policies, over what is declared of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Policies, each};
use crate::error::InvalidPolicy;
use crate::resilience::defeat::{self, Defeat};
use crate::resilience::pipeline::Pipeline;
use crate::resilience::policy::{Policy, PolicySettings};

/// What a file says of policies: by the pipeline's name, by the kind of policy, by the setting's name.
///
/// ```toml
/// [gateway.retry]
/// attempts = 5
/// backoff = { initial = "100ms", growth = { exponential = 2.0 }, max = "10s", jitter = 0.2 }
///
/// [gateway.circuit-breaker]
/// failure_rate = 30.0
/// window = { within = "10s" }
///
/// [gateway.bulkhead]
/// calls = 50
/// ```
///
/// The kinds are `retry`, `circuit-breaker`, `rate-limiter`, `time-limiter` and `bulkhead`; of several of one kind, each is
/// named as in `"circuit-breaker:ledger"`. What several pipelines share is set at one of them.
/// The settings are the fields of `RetrySettings` and its like; times are text, such as `"250ms"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyFile(BTreeMap<String, BTreeMap<String, Value>>);

impl Policies {
    /// Makes every policy what is declared of it, with what `file` says differently; calls under way go on.
    ///
    /// All of it or nothing: if a name is unknown, a setting cannot work or a nesting would defeat itself, everything stays as it was.
    /// Answers what is suspicious about the pipelines from now on, with their names.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub fn apply(&self, file: &PolicyFile) -> Result<Vec<(String, Defeat)>, InvalidPolicy> {
        let pipelines = self.pipelines();
        let mut wrong = Vec::new();
        let mut said: Vec<(Policy, PolicySettings, String)> = Vec::new();
        for (name, policies) in &file.0 {
            let Some(pipeline) = pipelines.iter().find(|pipeline| pipeline.name() == name) else {
                wrong.push(unknown_pipeline(name, &pipelines));
                continue;
            };
            for (key, settings) in policies {
                match find(pipeline, key).and_then(|policy| Ok((policy.clone(), policy.overlay(settings)?))) {
                    Ok((policy, settings)) => {
                        let place = format!("`{name}.{key}`");
                        match said.iter().find(|(one, ..)| one.is(&policy)) {
                            Some((.., first)) => wrong.push(said_twice(&policy, first, &place)),
                            None => said.push((policy, settings, place)),
                        }
                    }
                    Err(error) => wrong.push(error.to_string()),
                }
            }
        }
        if !wrong.is_empty() {
            return Err(invalid(wrong.join("; ")));
        }
        let before: Vec<_> = each(&pipelines).map(|policy| (policy.clone(), policy.present())).collect();
        let nothing = Value::Object(serde_json::Map::new());
        for policy in each(&pipelines).filter(|policy| !said.iter().any(|(one, ..)| one.is(policy))) {
            policy.change(policy.overlay(&nothing)?)?;
        }
        for (policy, settings, _) in said {
            policy.change(settings)?;
        }
        let mut warnings = Vec::new();
        for pipeline in &pipelines {
            match defeat::look(pipeline.policies()) {
                Ok(found) => warnings.extend(found.into_iter().map(|defeat| (pipeline.name().to_owned(), defeat))),
                Err(defeat) => {
                    for (policy, settings) in before {
                        policy.change(settings)?;
                    }
                    return Err(InvalidPolicy::new(format!("pipeline `{}`", pipeline.name()), defeat.to_string()));
                }
            }
        }
        Ok(warnings)
    }
}

fn invalid(reason: String) -> InvalidPolicy {
    InvalidPolicy::new("the policy file", reason)
}

fn said_twice(policy: &Policy, first: &str, second: &str) -> String {
    let (kind, name) = (policy.kind().name(), policy.name());
    format!("{kind} `{name}` is one policy, but {first} and {second} both set it: set it in one place")
}

fn unknown_pipeline(name: &str, pipelines: &[Pipeline]) -> String {
    let known: Vec<String> = pipelines.iter().map(|pipeline| format!("`{}`", pipeline.name())).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("there is no pipeline `{name}`; known: {known}")
}

fn find<'a>(pipeline: &'a Pipeline, key: &str) -> Result<&'a Policy, InvalidPolicy> {
    let configurable = || pipeline.policies().iter().filter(|policy| !matches!(policy, Policy::Fallback(_)));
    let (kind, name) = key.split_once(':').map_or((key, None), |(kind, name)| (kind, Some(name)));
    let meets = |policy: &&Policy| policy.kind().key() == kind && name.is_none_or(|name| policy.name() == name);
    let mut found = configurable().filter(meets);
    if let (Some(policy), None) = (found.next(), found.next()) {
        return Ok(policy);
    }
    let has: Vec<String> =
        configurable().map(|policy| format!("`{}:{}`", policy.kind().key(), policy.name())).collect();
    let which = if configurable().any(|policy| meets(&policy)) { "several policies" } else { "no policy" };
    Err(invalid(format!("pipeline `{}` has {which} `{key}`; it has: {}", pipeline.name(), has.join(", "))))
}
