//! `[storage]` and the environment to how object storage is reached.

use super::environment;
use super::settings::StorageSettings;
use crate::domain::spec::CloudSpec;

/// An address that no server can have. It is not shown, since a password may stand in it.
#[derive(Debug, thiserror::Error)]
#[error("endpoint_url in [storage] {problem}")]
pub struct EndpointError {
    problem: &'static str,
}

/// The variables that say where credentials are, beside those with the services' own prefixes.
const NAMES: [&str; 4] = ["HOME", "SERVICE_ACCOUNT", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"];
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// How object storage is reached. The settings may hold no key; the environment's keys are handed
/// on unread.
///
/// # Errors
/// If the address is none.
pub fn cloud(settings: StorageSettings) -> Result<CloudSpec, EndpointError> {
    let endpoint_url = settings.endpoint_url.filter(|url| !url.is_empty());
    if let Some(url) = &endpoint_url {
        check(url)?;
    }
    let is_meant = |name: &String| {
        NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let environment = environment::names()
        .filter(is_meant)
        .filter_map(|name| environment::variable(&name).map(|value| (name, value)))
        .collect();
    let region = settings.region.filter(|region| !region.is_empty());
    Ok(CloudSpec { endpoint_url, region, environment })
}

fn check(url: &str) -> Result<(), EndpointError> {
    let refuse = |problem| Err(EndpointError { problem });
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return refuse("is no address such as http://localhost:9000");
    };
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return refuse("begins with neither https:// nor http://");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return refuse("holds a name or password; keys come from the environment or a profile");
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return refuse("holds a `?` or `#`; it ends before the bucket");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_and_a_password_in_it_never_shown() {
        for good in ["http://localhost:9000", "https://s3.example.com/", "http://[::1]:1/base"] {
            check(good).unwrap();
        }
        for bad in ["localhost:9000", "s3://b", "http://n:hunter2@h", "http://h?x=hunter2", ""] {
            let refusal = check(bad).unwrap_err().to_string();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
