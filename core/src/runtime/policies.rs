//! The policies that a bus knows: gathered, configured, and told of.

use std::sync::Arc;

use super::BusBuilder;
use crate::bus::Core;
use crate::error::{InvalidPolicy, Warning};
use crate::listener::ErasedListener;
use crate::observe::Notice;
use crate::resilience::{Pipeline, Policies, PolicyFile, Told};

/// What a builder was given of policies.
#[derive(Default)]
pub(super) struct Declared {
    policies: Policies,
    wrong: Option<InvalidPolicy>,
    file: Option<PolicyFile>,
}

impl BusBuilder {
    /// Adds a pipeline, so that [`policy_file`](Self::policy_file) may configure it, its events go to the observers, and
    /// [`Bus::policies`](crate::Bus::policies) knows how it is. Those of listeners are added by themselves.
    pub fn policies(mut self, pipeline: &Pipeline) -> Self {
        if let Err(error) = self.policies.policies.add(pipeline) {
            self.policies.wrong.get_or_insert(error);
        }
        self
    }

    /// What a file says of the policies, over what is declared of them; [`Policies::apply`] says it again while the bus runs.
    pub fn policy_file(mut self, file: PolicyFile) -> Self {
        self.policies.file = Some(file);
        self
    }
}

impl Declared {
    /// The pipelines of the builder and of the listeners, configured.
    pub(super) fn gather(self, listeners: &[Box<dyn ErasedListener>]) -> Result<Policies, InvalidPolicy> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        for pipeline in listeners.iter().filter_map(|listener| listener.pipeline()) {
            self.policies.add(pipeline)?;
        }
        if let Some(file) = self.file {
            self.policies.apply(&file)?;
        }
        Ok(self.policies)
    }
}

/// Tells of nestings that are not the default and of suspicious ones, and from now on of what happens in policies.
pub(super) fn tell(core: &Arc<Core>) {
    for pipeline in core.policies.pipelines() {
        let name = pipeline.name();
        if pipeline.is_as_written() {
            core.watch().tell(&Notice::NestedAsWritten { pipeline: name, nesting: &pipeline.nesting() });
        }
        for defeat in pipeline.warnings() {
            let warning = Warning::SuspiciousPolicies { pipeline: name.to_owned(), reason: defeat.to_string() };
            core.watch().tell(&Notice::Warning(&warning));
        }
    }
    // Weak, as a pipeline may outlive every bus that knows it.
    let weak = Arc::downgrade(core);
    let told: Told = Arc::new(move |event| {
        if let Some(core) = weak.upgrade() {
            core.watch().tell(&Notice::Policy(event));
        }
    });
    core.policies.hear(&told);
}
