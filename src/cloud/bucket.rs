//! A bucket or container: whole objects in, whole objects and ranges out.
//!
//! A version is an ETag without its quotes. What was written under a condition is either refused
//! or stands whole; after [`CloudError::Passing`] it may do either.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::client::HttpError;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
    UpdateVersion,
};
use tokio::time::timeout;

use super::connection::connect;
use super::error::{Asked, CloudError, Refusal, judge};
use super::runtime::wait_for;
use super::wire::watched;
use crate::domain::spec::CloudSpec;
use crate::domain::{ObjectUrl, Service, UnixMillis};

/// Longest wait for an answer without a body to speak of.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Longest wait for a listing of many pages.
const LISTED_WITHIN: Duration = Duration::from_secs(120);
/// Seconds between the tries of a patient read.
const PAUSES_S: [u64; 5] = [1, 2, 4, 8, 15];
/// The slowest line that a body may take, bytes a second.
const SLOWEST: u64 = 512 << 10;

const STRANGE: &str = "the server's answer can't be understood, such as one without an ETag; check \
                       --endpoint-url, or use another server";

/// A connection to a bucket. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    service: Service,
    name: String,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client would show the access key.
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An object, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its whole key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// When it was stored, by the service's clock.
    pub modified: UnixMillis,
    /// Which bytes stand there.
    pub version: String,
}

/// What stands directly in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects, by key.
    pub objects: Vec<Object>,
    /// The whole keys of the folders, without a `/` at their ends.
    pub folders: Vec<String>,
}

/// Why a request came to nothing, before it is judged.
enum Failed {
    Late(Duration),
    Store(object_store::Error),
}

impl From<object_store::Error> for Failed {
    fn from(error: object_store::Error) -> Failed {
        Failed::Store(error)
    }
}

impl From<object_store::path::Error> for Failed {
    fn from(error: object_store::path::Error) -> Failed {
        Failed::Store(error.into())
    }
}

impl Bucket {
    /// The bucket that `url` names. Sends nothing.
    ///
    /// # Errors
    /// If the settings and credentials in `spec` can't be used.
    pub fn connect(url: &ObjectUrl, spec: &CloudSpec) -> Result<Bucket, CloudError> {
        let store = connect(url, spec)?;
        Ok(Bucket { store, service: url.service(), name: url.bucket().to_owned() })
    }

    /// Stores `bytes` under a new key; returns their version.
    ///
    /// # Errors
    /// [`CloudError::Taken`] if the key is taken.
    pub fn create(&self, key: &str, bytes: Bytes) -> Result<String, CloudError> {
        self.put(Asked::Create, key, bytes, PutMode::Create)
    }

    /// Stores `bytes` in place of the version `seen`; returns theirs.
    ///
    /// # Errors
    /// [`CloudError::Changed`] if another version stands there, or none.
    pub fn replace(&self, key: &str, bytes: Bytes, seen: &str) -> Result<String, CloudError> {
        // Google conditions a write on a number that no listing shows.
        let number = match self.service {
            Service::Gcs => match self.meta(key) {
                Ok(found) if version(&found) == seen => found.version,
                Ok(_) | Err(CloudError::NotFound) => return Err(CloudError::Changed),
                Err(error) => return Err(error),
            },
            Service::S3 | Service::Azure => None,
        };
        let seen = UpdateVersion { e_tag: Some(quoted(seen)), version: number };
        self.put(Asked::Version, key, bytes, PutMode::Update(seen))
    }

    fn put(
        &self,
        asked: Asked,
        key: &str,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<String, CloudError> {
        let (key, within) = (key.to_owned(), allowance(bytes.len() as u64));
        let stored = self.ask(asked, move |store| async move {
            let key = Path::parse(key)?;
            in_time(within, store.put_opts(&key, PutPayload::from(bytes), mode.into())).await
        })?;
        stored.e_tag.as_deref().map(unquoted).ok_or_else(|| CloudError::Lasting(STRANGE.to_owned()))
    }

    /// The whole object.
    ///
    /// # Errors
    /// [`CloudError::NotFound`] if there is none.
    pub fn read(&self, key: &str) -> Result<Bytes, CloudError> {
        self.get(Asked::Read, key, GetOptions::default())
    }

    /// The object's last `bytes` bytes, or all of it if it is shorter.
    ///
    /// # Errors
    /// [`CloudError::NotFound`] if there is none.
    pub fn read_end(&self, key: &str, bytes: u64) -> Result<Bytes, CloudError> {
        // Nothing has an end of no bytes, and servers refuse to give one.
        match self.meta(key)?.size {
            0 => Ok(Bytes::new()),
            size => {
                let range = GetRange::Bounded(size.saturating_sub(bytes)..size);
                self.get(Asked::Read, key, GetOptions { range: Some(range), ..Default::default() })
            }
        }
    }

    /// The bytes in `range` of the version `version`. The range is not empty and lies within it.
    ///
    /// # Errors
    /// [`CloudError::Changed`] if another version stands there, or none.
    pub fn read_range(
        &self,
        key: &str,
        range: Range<u64>,
        version: &str,
    ) -> Result<Bytes, CloudError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: Some(quoted(version)),
            ..Default::default()
        };
        self.get(Asked::Version, key, options)
    }

    /// As [`Bucket::read_range`], tried again for half a minute while the failure passes.
    ///
    /// # Errors
    /// As [`Bucket::read_range`].
    pub fn read_patiently(
        &self,
        key: &str,
        range: Range<u64>,
        version: &str,
    ) -> Result<Bytes, CloudError> {
        for pause in PAUSES_S {
            match self.read_range(key, range.clone(), version) {
                // If there is no thread to wait on, the next try says so.
                Err(CloudError::Passing(_)) => {
                    let wait = Duration::from_secs(pause);
                    let _ = wait_for(async move { tokio::time::sleep(wait).await });
                }
                read => return read,
            }
        }
        self.read_range(key, range, version)
    }

    fn get(&self, asked: Asked, key: &str, options: GetOptions) -> Result<Bytes, CloudError> {
        let key = key.to_owned();
        self.ask(asked, move |store| async move {
            let got = in_time(ANSWER_WITHIN, store.get_opts(&Path::parse(key)?, options)).await?;
            let length = got.range.end.saturating_sub(got.range.start);
            in_time(allowance(length), got.bytes()).await
        })
    }

    /// The object under `key`, without its bytes.
    ///
    /// # Errors
    /// [`CloudError::NotFound`] if there is none.
    pub fn head(&self, key: &str) -> Result<Object, CloudError> {
        self.meta(key).map(object)
    }

    fn meta(&self, key: &str) -> Result<ObjectMeta, CloudError> {
        let key = key.to_owned();
        self.ask(Asked::Read, move |store| async move {
            in_time(ANSWER_WITHIN, store.head(&Path::parse(key)?)).await
        })
    }

    /// What stands directly in `folder`; `""` is the whole bucket.
    ///
    /// # Errors
    /// If the bucket can't be listed. A folder that does not exist is empty.
    pub fn list(&self, folder: &str) -> Result<Listing, CloudError> {
        let folder = folder.to_owned();
        self.ask(Asked::Read, move |store| async move {
            let prefix = Path::parse(folder)?;
            let list = store.list_with_delimiter(Some(&prefix));
            let found = in_time(LISTED_WITHIN, list).await?;
            // Some tools mark a folder by an empty object of its name.
            let objects = found.objects.into_iter().filter(|meta| meta.location != prefix);
            let mut objects: Vec<Object> = objects.map(object).collect();
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            let folders = found.common_prefixes.into_iter().map(String::from).collect();
            Ok(Listing { objects, folders })
        })
    }

    /// Every object in `folder` and below, by key.
    ///
    /// # Errors
    /// If the bucket can't be listed. A folder that does not exist is empty.
    pub fn list_below(&self, folder: &str) -> Result<Vec<Object>, CloudError> {
        let folder = folder.to_owned();
        self.ask(Asked::Read, move |store| async move {
            let prefix = Path::parse(folder)?;
            let mut pages = store.list(Some(&prefix));
            let mut objects = Vec::new();
            while let Some(next) = late(ANSWER_WITHIN, pages.next()).await? {
                objects.push(object(next?));
            }
            objects.sort_by(|a: &Object, b: &Object| a.key.cmp(&b.key));
            Ok(objects)
        })
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// If the service refuses.
    pub fn delete(&self, key: &str) -> Result<(), CloudError> {
        let key = key.to_owned();
        let removed = self.ask(Asked::Delete, move |store| async move {
            in_time(ANSWER_WITHIN, store.delete(&Path::parse(key)?)).await
        });
        match removed {
            Err(CloudError::NotFound) => Ok(()),
            removed => removed,
        }
    }

    /// Lets `work` ask the service, and judges a failure.
    fn ask<T, F>(
        &self,
        asked: Asked,
        work: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<T, CloudError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
    {
        let answered = wait_for(watched(work(Arc::clone(&self.store))));
        let (result, refusal) = answered.map_err(|error| CloudError::Lasting(error.to_string()))?;
        result.map_err(|failed| match failed {
            Failed::Late(within) => {
                CloudError::Passing(format!("no answer within {} s", within.as_secs()))
            }
            Failed::Store(error) => match refusal.or_else(|| broken_body(&error)) {
                Some(refusal) => judge(self.service, &self.name, asked, &refusal),
                None => unanswered(&error),
            },
        })
    }
}

async fn in_time<T>(
    within: Duration,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Failed> {
    Ok(late(within, work).await??)
}

async fn late<T>(within: Duration, work: impl Future<Output = T>) -> Result<T, Failed> {
    timeout(within, work).await.map_err(|_| Failed::Late(within))
}

/// How long `bytes` may take on a slow line.
fn allowance(bytes: u64) -> Duration {
    ANSWER_WITHIN + Duration::from_secs(bytes / SLOWEST)
}

/// A body that broke off after a good status.
fn broken_body(error: &object_store::Error) -> Option<Refusal> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return Some(Refusal::Transport(error.kind()));
        }
        cause = error.source();
    }
    None
}

/// A failure that came without a refusal: the request was never sent, or its answer is strange.
fn unanswered(error: &object_store::Error) -> CloudError {
    CloudError::Lasting(match error {
        object_store::Error::InvalidPath { .. } => {
            "a key there has an empty name, `.` or `..` between its slashes, which is not read; \
             rename it"
                .to_owned()
        }
        object_store::Error::NotImplemented { .. } => {
            "conditional requests are switched off; unset AWS_CONDITIONAL_PUT".to_owned()
        }
        _ => STRANGE.to_owned(),
    })
}

fn object(meta: ObjectMeta) -> Object {
    Object {
        version: version(&meta),
        bytes: meta.size,
        modified: UnixMillis(u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0)),
        key: meta.location.into(),
    }
}

fn version(meta: &ObjectMeta) -> String {
    meta.e_tag.as_deref().map(unquoted).unwrap_or_default()
}

/// Listings of Azure leave the quotes of an ETag out, headers don't.
fn unquoted(e_tag: &str) -> String {
    e_tag.trim_matches('"').to_owned()
}

fn quoted(version: &str) -> String {
    format!("\"{version}\"")
}

#[cfg(test)]
mod tests {
    use super::super::scripted_server::{SECRETS, ScriptedServer, url};
    use super::*;

    fn refusal(code: &str) -> String {
        let [key, secret] = SECRETS;
        format!("<Error><Code>{code}</Code><AWSAccessKeyId>{key}</AWSAccessKeyId>{secret}</Error>")
    }

    #[test]
    fn a_refusal_says_whose_move_it_is_and_repeats_no_secret() {
        let body = refusal("AccessDenied");
        let server = ScriptedServer::start(&[("403 Forbidden", &body)]);
        let bucket = server.bucket();
        let failures = [
            bucket.read("out/a").unwrap_err(),
            bucket.list("out").unwrap_err(),
            bucket.list_below("out").unwrap_err(),
            bucket.create("out/a", Bytes::from("x")).unwrap_err(),
            bucket.delete("out/a").unwrap_err(),
        ];
        for error in failures {
            let shown = format!("{error} {error:?} {bucket:?}");
            assert!(
                shown.contains("may not do that in the bucket `box` (403, AccessDenied)"),
                "{shown}"
            );
            assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{shown}");
        }
        assert_eq!(server.asked().len(), 5, "what lasts is asked for once");
    }

    #[test]
    fn what_passes_is_tried_three_times_and_then_said() {
        let body = refusal("SlowDown");
        let server = ScriptedServer::start(&[("503 Slow Down", &body)]);
        let error = server.bucket().create("out/a", Bytes::from("x")).unwrap_err();
        assert!(matches!(&error, CloudError::Passing(words) if words.contains("SlowDown")));
        assert_eq!(server.asked().len(), 3);

        let server = ScriptedServer::start(&[("503 Slow Down", ""), ("200 OK\r\nETag: \"v\"", "")]);
        assert_eq!(server.bucket().create("out/a", Bytes::from("x")).unwrap(), "v");
    }

    #[test]
    fn writes_and_ranges_carry_their_conditions() {
        let stored = "200 OK\r\nETag: \"v2\"";
        let server = ScriptedServer::start(&[(stored, ""), (stored, ""), ("412 No", "")]);
        let bucket = server.bucket();
        bucket.create("out/a", Bytes::from("x")).unwrap();
        assert_eq!(bucket.replace("out/a", Bytes::from("x"), "v1").unwrap(), "v2");
        assert_eq!(bucket.read_range("out/a", 3..7, "v1"), Err(CloudError::Changed));
        let asked = server.asked();
        assert!(asked[0].contains("put /box/out/a") && asked[0].contains("if-none-match: *"));
        assert!(asked[1].contains("if-match: \"v1\""), "{}", asked[1]);
        assert!(asked[2].contains("range: bytes=3-6") && asked[2].contains("if-match: \"v1\""));
    }

    #[test]
    fn a_conflict_of_two_writers_passes() {
        let body = refusal("ConditionalRequestConflict");
        let server = ScriptedServer::start(&[("409 Conflict", &body)]);
        let error = server.bucket().create("out/a", Bytes::from("x")).unwrap_err();
        assert!(matches!(error, CloudError::Passing(_)), "{error:?}");
    }

    #[test]
    fn an_object_without_an_etag_is_refused() {
        let server = ScriptedServer::start(&[("200 OK", "")]);
        let error = server.bucket().create("out/a", Bytes::from("x")).unwrap_err();
        assert!(
            matches!(&error, CloudError::Lasting(words) if words.contains("ETag")),
            "{error:?}"
        );
    }

    #[test]
    fn each_service_is_connected_to_without_a_request() {
        let mut spec = CloudSpec::default();
        spec.environment.insert("AWS_ACCESS_KEY_ID".into(), "a".into());
        spec.environment.insert("AWS_SECRET_ACCESS_KEY".into(), "b".into());
        let unnamed = Bucket::connect(&url("az://box/out"), &spec).unwrap_err();
        assert!(unnamed.to_string().contains("AZURE_STORAGE_ACCOUNT_NAME"), "{unnamed}");
        for typed in
            ["s3://box/out", "gs://box/out", "abfss://box@account.dfs.core.windows.net/out"]
        {
            Bucket::connect(&url(typed), &spec).unwrap();
        }
    }
}
