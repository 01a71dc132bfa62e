//! The key for the service: read from the environment, shown nowhere.

use crate::domain::spec::ModelSpec;
use crate::llm::provider::ApiKey;

/// Why there is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// The variable holds nothing.
    #[error(
        "the environment variable {variable} is not set; put the key for {base_url} into it, or \
         name another with api_key_env"
    )]
    NotSet {
        /// The variable's name.
        variable: String,
        /// The service's address.
        base_url: String,
    },
    /// The variable holds what no key can be.
    #[error("the environment variable {variable} holds no key: only visible ASCII can be sent")]
    Unsendable {
        /// The variable's name.
        variable: String,
    },
}

/// The key that `model` is to be asked with, if it is to be sent one.
///
/// # Errors
/// If the variable that should hold it doesn't.
pub fn api_key(
    model: &ModelSpec,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<ApiKey>, ApiKeyError> {
    let Some(name) = &model.api_key_env else {
        return Ok(None);
    };
    let value = variable(name).map(|value| value.trim().to_owned());
    match value.filter(|value| !value.is_empty()) {
        Some(value) => match ApiKey::new(&value) {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(ApiKeyError::Unsendable { variable: name.clone() }),
        },
        None => {
            Err(ApiKeyError::NotSet { variable: name.clone(), base_url: model.base_url.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config_file::parse;
    use super::super::init_command::STARTER;
    use super::super::job::job;
    use super::*;

    fn model() -> ModelSpec {
        let settings = parse(STARTER, Path::new("x")).unwrap();
        job(settings, "in".into(), "out".into(), None).unwrap().model
    }

    #[test]
    fn a_key_is_trimmed_and_never_printed() {
        let key = api_key(&model(), |_| Some("sk-secret\n".into())).unwrap().unwrap();
        assert!(!format!("{key:?}").contains("secret"));
    }

    #[test]
    fn a_variable_without_a_key_is_named() {
        let error = api_key(&model(), |_| None).unwrap_err();
        assert!(error.to_string().contains("OPENAI_API_KEY is not set"), "{error}");
        let error = api_key(&model(), |_| Some("sk secret".into())).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_model_that_needs_no_key_asks_for_none() {
        let model = ModelSpec { api_key_env: None, ..model() };
        assert!(api_key(&model, |_| panic!("nobody is asked")).unwrap().is_none());
    }
}
