//! Where an input or an output is: a path, or a folder or object in object storage.
//!
//! What looks like a URL is never taken for a path, so that a mistyped one makes no folder `s3:`.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A path of this machine's file system.
    Path(PathBuf),
    /// A place in object storage.
    Object(ObjectUrl),
}

/// A bucket and a key in it, such as `s3://bucket/folder/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUrl {
    typed: String,
    service: Service,
    account: Option<String>,
    bucket: String,
    key: String,
}

/// Whose object storage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, and every server that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// Why a URL names no place. None of them shows a URL that may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A scheme that nothing here reads.
    #[error(
        "`{scheme}://` is not read or written; name a path, or s3://BUCKET/KEY, gs://BUCKET/KEY \
         or az://CONTAINER/KEY"
    )]
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// `s3:/bucket`.
    #[error(
        "`{typed}` lacks a slash; write {scheme}://BUCKET/KEY (a file of that name is ./{typed})"
    )]
    OneSlash {
        /// What was typed.
        typed: String,
        /// Its scheme.
        scheme: String,
    },
    /// `s3:///key`.
    #[error("`{typed}` names no bucket; write {scheme}://BUCKET/KEY")]
    NoBucket {
        /// What was typed.
        typed: String,
        /// Its scheme.
        scheme: String,
    },
    /// `s3://name:password@bucket`.
    #[error("the {scheme}:// URL holds an `@`; keys and passwords never stand in a URL")]
    UserInfo {
        /// Its scheme.
        scheme: String,
    },
    /// `abfss://container@account/`, and the account is none.
    #[error("`{typed}` is no {scheme}://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH")]
    NoAccount {
        /// What was typed.
        typed: String,
        /// Its scheme.
        scheme: String,
    },
    /// A key that storage tools can't agree on.
    #[error("`{typed}` has an empty name, `.`, `..` or a control character between its slashes")]
    BadKey {
        /// What was typed.
        typed: String,
    },
}

impl Location {
    /// Understands what was typed. Touches nothing.
    ///
    /// # Errors
    /// If it is meant as a URL and names no place in a bucket.
    pub fn parse(typed: &OsStr) -> Result<Location, LocationError> {
        let Some(text) = typed.to_str() else { return Ok(Location::Path(typed.into())) };
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme))
        else {
            return Ok(Location::Path(text.into()));
        };
        let (typed, scheme) = (text.to_owned(), scheme.to_ascii_lowercase());
        let service = service_of(&scheme);
        match (rest.strip_prefix("//"), service) {
            (Some(rest), Some(service)) => {
                ObjectUrl::parse(typed, scheme, service, rest).map(Location::Object)
            }
            (Some(_), None) => Err(LocationError::UnknownScheme { scheme }),
            (None, Some(_)) if rest.starts_with('/') => {
                Err(LocationError::OneSlash { typed, scheme })
            }
            (None, _) => Ok(Location::Path(typed.into())),
        }
    }

    /// The path, if it is one.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Location::Path(path) => Some(path),
            Location::Object(_) => None,
        }
    }

    /// Whether it is `other`, or lies in it, as both were typed.
    pub fn is_within(&self, other: &Location) -> bool {
        match (self, other) {
            (Location::Path(path), Location::Path(other)) => path.starts_with(other),
            (Location::Object(url), Location::Object(other)) => {
                let [inner, outer] = [url, other].map(|url| format!("{}/", url.canonical()));
                inner.starts_with(&outer)
            }
            _ => false,
        }
    }

    /// What is called `name` in it, in words; `name` may be empty.
    pub fn join(&self, name: &str) -> String {
        match self {
            Location::Path(path) if name.is_empty() => path.display().to_string(),
            Location::Path(path) => path.join(name).display().to_string(),
            Location::Object(url) => url.join(name),
        }
    }
}

impl ObjectUrl {
    fn parse(
        typed: String,
        scheme: String,
        service: Service,
        rest: &str,
    ) -> Result<ObjectUrl, LocationError> {
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        let is_abfs = scheme.starts_with("abfs");
        let (bucket, account) = match authority.rsplit_once('@') {
            Some((container, host)) if is_abfs => {
                let account = host.split('.').next().unwrap_or_default();
                if container.contains([':', '@']) {
                    return Err(LocationError::UserInfo { scheme });
                }
                if account.is_empty() {
                    return Err(LocationError::NoAccount { typed, scheme });
                }
                (container, Some(account.to_owned()))
            }
            Some(_) => return Err(LocationError::UserInfo { scheme }),
            None => (authority, None),
        };
        if bucket.is_empty() {
            return Err(LocationError::NoBucket { typed, scheme });
        }
        let names = key.strip_suffix('/').unwrap_or(key);
        let is_bad = |name: &str| {
            matches!(name, "" | "." | "..") || name.chars().any(|c| c.is_ascii_control())
        };
        if (!names.is_empty() && names.split('/').any(is_bad)) || key == "/" {
            return Err(LocationError::BadKey { typed });
        }
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Ok(ObjectUrl { typed, service, account, bucket, key })
    }

    /// Whose storage.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The Azure account, where the URL names it.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// The bucket or container.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key, or the folder's name without a `/` at its end; empty for the whole bucket.
    pub fn key(&self) -> &str {
        self.key.strip_suffix('/').unwrap_or(&self.key)
    }

    /// Whether it can only be a folder: it ends with `/`, or is the whole bucket.
    pub fn is_folder(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// The folder or object itself however it was typed: equal for equal places.
    pub fn canonical(&self) -> String {
        let account = self.account.as_deref().map(|account| format!("{account}/"));
        let scheme = match self.service {
            Service::S3 => "s3",
            Service::Gcs => "gs",
            Service::Azure => "az",
        };
        format!("{scheme}://{}{}/{}", account.unwrap_or_default(), self.bucket, self.key())
    }

    /// The URL of what is called `name` in it; `name` may be empty.
    pub fn join(&self, name: &str) -> String {
        match name {
            "" => self.typed.clone(),
            name => format!("{}/{name}", self.typed.strip_suffix('/').unwrap_or(&self.typed)),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Location {
        Location::Path(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Location {
        Location::Path(path.to_owned())
    }
}

impl From<ObjectUrl> for Location {
    fn from(url: ObjectUrl) -> Location {
        Location::Object(url)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Path(path) => path.display().fmt(f),
            Location::Object(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

/// Two letters or more: `c:` is a disk elsewhere, and a colon is common in names.
fn is_scheme(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(is_letter)
}

fn service_of(scheme: &str) -> Option<Service> {
    match scheme {
        "s3" | "s3a" => Some(Service::S3),
        "gs" => Some(Service::Gcs),
        "az" | "azure" | "abfs" | "abfss" => Some(Service::Azure),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn parse(typed: &str) -> Result<Location, LocationError> {
        Location::parse(OsStr::new(typed))
    }

    fn url(typed: &str) -> ObjectUrl {
        match parse(typed).unwrap() {
            Location::Object(url) => url,
            Location::Path(path) => panic!("{} is a path", path.display()),
        }
    }

    #[test]
    fn a_url_is_a_bucket_and_a_key_and_shown_as_it_was_typed() {
        let found = url("s3://bucket/a b/out/");
        assert_eq!((found.bucket(), found.key(), found.is_folder()), ("bucket", "a b/out", true));
        assert_eq!(found.to_string(), "s3://bucket/a b/out/");
        assert_eq!(found.join("part.parquet"), "s3://bucket/a b/out/part.parquet");
        let found = url("gs://bucket/in/*.parquet");
        assert_eq!(
            (found.service(), found.key(), found.is_folder()),
            (Service::Gcs, "in/*.parquet", false)
        );
        for whole in ["s3://bucket", "s3a://bucket/"] {
            assert_eq!((url(whole).key(), url(whole).is_folder()), ("", true), "{whole}");
        }
        assert_eq!(url("s3://b").join("x"), "s3://b/x");
        let azure = url("abfss://box@store.dfs.core.windows.net/out");
        assert_eq!((azure.bucket(), azure.account(), azure.key()), ("box", Some("store"), "out"));
    }

    #[test]
    fn one_place_is_one_place_however_it_is_typed() {
        assert_eq!(url("s3://b/out").canonical(), url("s3a://b/out/").canonical());
        assert_ne!(url("s3://b/out").canonical(), url("gs://b/out").canonical());
        assert_ne!(url("s3://b/out").canonical(), url("s3://b/ou/t").canonical());
    }

    #[test]
    fn what_is_no_url_is_a_path() {
        for path in ["out/", "a:b.csv", "./s3:/x", "c:/out", "12:30.csv", "", "s3", "s3:x", "a//b"]
        {
            assert_eq!(parse(path), Ok(Location::Path(path.into())), "{path}");
        }
        assert_eq!(Location::Path("out".into()).join("x"), "out/x");
    }

    #[test]
    fn a_url_that_names_no_place_is_refused_in_one_sentence() {
        let refusal = |typed: &str| parse(typed).unwrap_err().to_string();
        assert_snapshot!(refusal("https://b/x"), @"`https://` is not read or written; name a path, or s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY");
        assert_snapshot!(refusal("s3:/b/x"), @"`s3:/b/x` lacks a slash; write s3://BUCKET/KEY (a file of that name is ./s3:/b/x)");
        assert_snapshot!(refusal("s3:///x"), @"`s3:///x` names no bucket; write s3://BUCKET/KEY");
        assert_snapshot!(refusal("s3://b/x//y"), @"`s3://b/x//y` has an empty name, `.`, `..` or a control character between its slashes");
        assert_snapshot!(refusal("s3://b/x/../y"), @"`s3://b/x/../y` has an empty name, `.`, `..` or a control character between its slashes");
        assert_snapshot!(refusal("abfss://box@/x"), @"`abfss://box@/x` is no abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH");
    }

    #[test]
    fn a_password_in_a_url_is_never_repeated() {
        for typed in
            ["s3://AKIA:hunter2@bucket/x", "abfss://n:hunter2@box@h/x", "https://n:hunter2@h/"]
        {
            let refusal = parse(typed).unwrap_err().to_string();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
