//! The secret that a service knows its customer by.
//!
//! It has no `Display`, its `Debug` shows nothing of it, and it leaves this type only as a header
//! that is marked sensitive.

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::endpoint::{ProviderSetupError, is_loopback};

/// An API key.
#[derive(Clone)]
pub struct ApiKey {
    secret: Box<str>,
    bearer: HeaderValue,
}

impl ApiKey {
    /// The key in `value`, less the white space around it that files and shells leave.
    ///
    /// # Errors
    /// If nothing is left, or a header can't carry it.
    pub fn new(value: &str) -> Result<ApiKey, ProviderSetupError> {
        let secret = value.trim();
        if secret.is_empty() {
            return Err(ProviderSetupError::EmptyKey);
        }
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProviderSetupError::BadKey);
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {secret}"))
            .map_err(|_| ProviderSetupError::BadKey)?;
        bearer.set_sensitive(true);
        Ok(ApiKey { secret: secret.into(), bearer })
    }

    /// Whether the key may be sent to `url`.
    ///
    /// # Errors
    /// If that is neither https nor this machine.
    pub fn may_travel_to(&self, url: &Url) -> Result<(), ProviderSetupError> {
        if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)) {
            return Ok(());
        }
        Err(ProviderSetupError::KeyInTheClear { host: url.host_str().unwrap_or_default().into() })
    }

    /// The `Authorization` header's value, marked sensitive.
    pub(super) fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// `text` with the key taken out, should it be in there.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&*self.secret, "[key]")
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn travels(url: &str) -> bool {
        let key = ApiKey::new("sk-secret-123").unwrap();
        key.may_travel_to(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn a_key_travels_over_https_or_within_this_machine() {
        assert!(travels("https://api.example.com/v1"));
        assert!(travels("http://127.0.0.1:8080/v1"));
        assert!(travels("http://[::1]/v1"));
        assert!(travels("http://localhost:11434/v1"));
        assert!(!travels("http://api.example.com/v1"));
        assert!(!travels("http://192.168.1.2/v1"));
        assert!(!travels("ftp://localhost/v1"));
    }

    #[test]
    fn nothing_shows_the_key() {
        let key = ApiKey::new(" sk-secret-123\n").unwrap();
        assert!(!format!("{key:?} {:?}", key.bearer()).contains("secret"));
        assert_eq!(key.redact("bad key sk-secret-123!"), "bad key [key]!");
        let url = Url::parse("http://example.com").unwrap();
        let error = key.may_travel_to(&url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn a_key_that_no_header_carries_is_refused() {
        assert_eq!(ApiKey::new(" \n").unwrap_err(), ProviderSetupError::EmptyKey);
        assert_eq!(ApiKey::new("two\nlines").unwrap_err(), ProviderSetupError::BadKey);
        assert_eq!(ApiKey::new("schlüssel").unwrap_err(), ProviderSetupError::BadKey);
    }
}
