//! Where requests go: a checked base URL, and whether a key may travel there.

use std::net::IpAddr;

use reqwest::Url;

/// Why a provider can't be set up. No variant holds a key or a URL's user and password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderSetupError {
    /// Not an address that requests can be sent to.
    #[error("model.base_url is not an address ({reason}); write it like \"https://host/v1\"")]
    BadBaseUrl {
        /// What is wrong with it.
        reason: String,
    },
    /// `https://user:password@host`.
    #[error(
        "model.base_url carries a user name or password; \
         put the key into the variable that model.api_key_env names"
    )]
    Credentials,
    /// `https://host/v1?key=value` or `#fragment`.
    #[error("model.base_url has a `?` or `#` part, which is never sent; end it with the path")]
    Query,
    /// A key would travel readable by anyone on the way.
    #[error(
        "a key is only sent over https or to this machine, not to http://{host}; \
         use an https base_url, or leave model.api_key_env out if the service needs no key"
    )]
    KeyInTheClear {
        /// The host that would have got it.
        host: String,
    },
    /// The key's variable is empty.
    #[error("the API key is empty; set the variable that model.api_key_env names")]
    EmptyKey,
    /// A key that no header can carry.
    #[error("the API key holds a character that a request header can't carry; copy it anew")]
    BadKey,
    /// The HTTP client can't start, mostly for want of root certificates.
    #[error("the HTTPS client can't start: {message}; are this machine's root certificates there?")]
    Client {
        /// What was wrong, in words.
        message: String,
    },
}

/// A checked address of a chat service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    chat_completions: Url,
    authority: String,
    is_loopback: bool,
}

impl Endpoint {
    /// Reads a base URL: up to but not including `/chat/completions`, which is taken off if it is
    /// there.
    ///
    /// # Errors
    /// If it is no http or https URL, or carries credentials, a query or a fragment.
    pub fn parse(base_url: &str) -> Result<Endpoint, ProviderSetupError> {
        let bad = |reason: &str| ProviderSetupError::BadBaseUrl { reason: reason.to_owned() };
        let mut url = Url::parse(base_url.trim()).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it must begin with https:// or http://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ProviderSetupError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ProviderSetupError::Query);
        }
        let host = url.host_str().ok_or_else(|| bad("it names no host"))?.to_owned();
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        let base = url.path().trim_end_matches('/');
        let base = base.strip_suffix("/chat/completions").unwrap_or(base);
        let path = format!("{base}/chat/completions");
        url.set_path(&path);
        let is_loopback = is_loopback(&url);
        Ok(Endpoint { chat_completions: url, authority, is_loopback })
    }

    /// Where chat requests are posted.
    pub fn chat_completions(&self) -> &Url {
        &self.chat_completions
    }

    /// Host, and port unless it is the scheme's own.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether requests stay on this machine: 127.0.0.0/8, `::1` or `localhost`.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Whether requests are encrypted.
    pub fn is_https(&self) -> bool {
        self.chat_completions.scheme() == "https"
    }
}

/// Whether `url` names this machine and nothing else.
pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_appended_once() {
        for base in [
            "https://api.openai.com/v1",
            "https://api.openai.com/v1/",
            " https://api.openai.com/v1/chat/completions",
        ] {
            let endpoint = Endpoint::parse(base).unwrap();
            let url = endpoint.chat_completions().as_str();
            assert_eq!(url, "https://api.openai.com/v1/chat/completions");
            assert_eq!(endpoint.authority(), "api.openai.com");
        }
        let bare = Endpoint::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!(bare.chat_completions().as_str(), "http://127.0.0.1:8080/chat/completions");
        assert_eq!(bare.authority(), "127.0.0.1:8080");
    }

    #[test]
    fn loopback_is_this_machine_and_nothing_that_looks_like_it() {
        for base in ["http://127.9.0.1/v1", "http://[::1]:1/v1", "http://LOCALHOST:11434/v1"] {
            assert!(Endpoint::parse(base).unwrap().is_loopback(), "{base}");
        }
        for base in [
            "http://localhost.example.com",
            "http://127.0.0.1.nip.io",
            "http://10.0.0.1",
            "http://0.0.0.0",
        ] {
            assert!(!Endpoint::parse(base).unwrap().is_loopback(), "{base}");
        }
    }

    #[test]
    fn secrets_in_the_address_are_refused_and_not_repeated() {
        let error = Endpoint::parse("https://me:hunter2@host/v1").unwrap_err();
        assert_eq!(error, ProviderSetupError::Credentials);
        assert!(!error.to_string().contains("hunter2"));
        let error = Endpoint::parse("https://host/v1?key=hunter2").unwrap_err();
        assert_eq!(error, ProviderSetupError::Query);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for base in ["", "api.openai.com/v1", "ftp://host/v1", "https://"] {
            let error = Endpoint::parse(base).unwrap_err();
            assert!(matches!(error, ProviderSetupError::BadBaseUrl { .. }), "{base}: {error:?}");
        }
    }
}
