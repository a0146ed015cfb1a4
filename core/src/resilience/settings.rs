//! What all settings have in common: they are checked, and a file may say some of them differently.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::InvalidPolicy;

/// The settings of a kind of policy.
pub(crate) trait Settings: Serialize + DeserializeOwned + Clone {
    /// What kind, for messages.
    const KIND: &'static str;

    /// Why they cannot work, if they cannot.
    fn check(&self) -> Result<(), String>;

    /// Takes over what a file cannot say: rules and functions.
    fn keep(&mut self, declared: &Self);
}

/// Refuses settings that cannot work.
pub(crate) fn checked<S: Settings>(name: &str, settings: S) -> Result<S, InvalidPolicy> {
    match settings.check() {
        Ok(()) => Ok(settings),
        Err(reason) => Err(InvalidPolicy::new(format!("{} `{name}`", S::KIND), reason)),
    }
}

/// `declared` with what `file` says differently.
pub(crate) fn overlaid<S: Settings>(name: &str, declared: &S, file: &Value) -> Result<S, InvalidPolicy> {
    let invalid = |reason: String| InvalidPolicy::new(format!("{} `{name}`", S::KIND), reason);
    let mut whole = serde_json::to_value(declared).map_err(|error| invalid(error.to_string()))?;
    let (Value::Object(fields), Value::Object(said)) = (&mut whole, file) else {
        return Err(invalid("its settings are a table of names and values".to_owned()));
    };
    for (field, value) in said {
        fields.insert(field.clone(), value.clone());
    }
    let mut settings: S = serde_json::from_value(whole).map_err(|error| invalid(error.to_string()))?;
    settings.keep(declared);
    checked(name, settings)
}
