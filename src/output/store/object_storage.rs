//! A folder in a bucket: each object is stored by one request, under a condition that the service
//! itself decides.
//!
//! Two writers that create one name can't both succeed, and nothing is replaced that was not seen.
//! Servers that only resemble S3 may ignore such conditions; the first object that a run creates
//! shows it, by being created and replaced once more with the same bytes, which has to be refused.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Store, StoreError, Stored, Version};
use crate::cloud::{Bucket, CloudError, Object};
use crate::domain::ObjectUrl;
use crate::domain::spec::CloudSpec;

/// A version that no object has.
const NO_VERSION: &str = "00000000000000000000000000000000";

/// Objects under one folder of a bucket.
#[derive(Debug)]
pub struct ObjectStorage {
    bucket: Bucket,
    url: ObjectUrl,
    is_proven: AtomicBool,
}

impl ObjectStorage {
    /// A store of the objects below `url`. Sends nothing.
    ///
    /// # Errors
    /// [`StoreError::Lasting`] if the settings and credentials in `spec` can't be used.
    pub fn connect(url: &ObjectUrl, spec: &CloudSpec) -> Result<ObjectStorage, StoreError> {
        let bucket = Bucket::connect(url, spec);
        let bucket = bucket.map_err(|error| sorted("connecting to", url.to_string(), error))?;
        Ok(ObjectStorage { bucket, url: url.clone(), is_proven: AtomicBool::new(false) })
    }

    fn key(&self, name: &str) -> String {
        match (self.url.key(), name) {
            ("", name) => name.to_owned(),
            (folder, "") => folder.to_owned(),
            (folder, name) => format!("{folder}/{name}"),
        }
    }

    /// The name of what stands under `key`.
    fn name(&self, key: String) -> String {
        let below = key.strip_prefix(self.url.key()).map(|rest| rest.trim_start_matches('/'));
        below.map_or_else(|| key.clone(), str::to_owned)
    }

    fn failed(&self, doing: &'static str, name: &str) -> impl FnOnce(CloudError) -> StoreError {
        let url = self.url.join(name);
        move |error| sorted(doing, url, error)
    }

    fn stored(&self, object: Object) -> Stored {
        Stored {
            name: self.name(object.key),
            bytes: object.bytes,
            modified: object.modified,
            version: Version(object.version.into()),
        }
    }

    /// Writes `bytes` over the object of this name that holds them already, under conditions that
    /// don't hold. What passes is tried again with the next object.
    fn prove_conditions(&self, name: &str, bytes: &Bytes) -> Result<(), StoreError> {
        if self.is_proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let key = self.key(name);
        let ignored = match self.bucket.create(&key, bytes.clone()) {
            Ok(_) => Some("If-None-Match"),
            Err(CloudError::Taken) => match self.bucket.replace(&key, bytes.clone(), NO_VERSION) {
                Ok(_) => Some("If-Match"),
                Err(CloudError::Changed) => None,
                Err(_) => return Ok(()),
            },
            Err(_) => return Ok(()),
        };
        let Some(ignored) = ignored else {
            self.is_proven.store(true, Ordering::Relaxed);
            return Ok(());
        };
        let words = format!(
            "this server ignores {ignored}, so two runs could write over each other; use one that \
             knows conditional requests, or a folder on a disk"
        );
        Err(self.failed("writing", name)(CloudError::Lasting(words)))
    }
}

impl Store for ObjectStorage {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        let bytes = Bytes::copy_from_slice(bytes);
        let version = self.bucket.create(&self.key(name), bytes.clone());
        let version = version.map_err(self.failed("writing", name))?;
        self.prove_conditions(name, &bytes)?;
        Ok(Version(version.into()))
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        let bytes = Bytes::copy_from_slice(bytes);
        let version = self.bucket.replace(&self.key(name), bytes, &seen.0);
        version.map(|version| Version(version.into())).map_err(self.failed("writing", name))
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.bucket.read(&self.key(name)).map_err(self.failed("reading", name))
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.bucket.read_end(&self.key(name), bytes).map_err(self.failed("reading", name))
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        let listing = self.bucket.list(&self.key(folder));
        let listing = listing.map_err(self.failed("listing", folder))?;
        let objects = listing.objects.into_iter().map(|object| self.stored(object));
        let folders = listing.folders.into_iter();
        let folders = folders.map(|key| Stored::folder(self.name(key) + "/"));
        let mut listed: Vec<Stored> = objects.chain(folders).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.bucket.delete(&self.key(name)).map_err(self.failed("removing", name))
    }
}

fn sorted(doing: &'static str, name: String, error: CloudError) -> StoreError {
    match error {
        CloudError::NotFound => StoreError::NotFound { name },
        CloudError::Taken => StoreError::AlreadyExists { name },
        CloudError::Changed => StoreError::Changed { name },
        CloudError::Passing(_) => {
            StoreError::Passing { doing, name, source: io::Error::other(error) }
        }
        CloudError::Lasting(_) => {
            StoreError::Lasting { doing, name, source: io::Error::other(error) }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::cloud::moto::{self, TestBucket};
    use crate::cloud::scripted_server::{ScriptedServer, url};

    pub(in super::super) fn store(bucket: &TestBucket, folder: &str) -> ObjectStorage {
        ObjectStorage::connect(&url(&bucket.url(folder)), &spec(bucket)).unwrap()
    }

    fn spec(bucket: &TestBucket) -> CloudSpec {
        let environment = bucket.environment();
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        CloudSpec { environment: environment.into(), ..CloudSpec::default() }
    }

    #[test]
    fn of_eight_that_create_one_name_exactly_one_wins() {
        let Some(bucket) = moto::bucket() else { return };
        let stores: Vec<_> = (0..8).map(|_| store(&bucket, "out")).collect();
        for round in 0..20 {
            let start = Barrier::new(stores.len());
            let name = format!("round-{round}");
            let created: Vec<_> = std::thread::scope(|scope| {
                let create = |(writer, store): (usize, &ObjectStorage)| {
                    start.wait();
                    (writer, store.create(&name, format!("by {writer}").as_bytes()))
                };
                let threads = stores.iter().enumerate();
                let threads = threads.map(|each| scope.spawn(move || create(each)));
                let threads: Vec<_> = threads.collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let (won, lost): (Vec<_>, Vec<_>) =
                created.into_iter().partition(|(_, result)| result.is_ok());
            assert_eq!(won.len(), 1, "round {round}");
            for (_, result) in lost {
                let error = result.unwrap_err();
                assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error:?}");
            }
            let standing = stores[0].read(&name).unwrap();
            assert_eq!(standing, format!("by {}", won[0].0).as_bytes());
        }
    }

    #[test]
    fn the_first_object_proves_the_conditions_and_no_later_one_does() {
        let Some(bucket) = moto::bucket() else { return };
        let store = store(&bucket, "out");
        let before = bucket.count("PUT");
        store.create("a", b"x").unwrap();
        assert_eq!(bucket.count("PUT") - before, 3);
        store.create("b", b"x").unwrap();
        assert_eq!(bucket.count("PUT") - before, 4);
        assert_eq!(&store.read("a").unwrap()[..], b"x");
    }

    #[test]
    fn a_server_that_ignores_conditions_is_refused_before_anything_is_paid_for() {
        let stored = ("200 OK\r\nETag: \"v\"", "");
        let taken = ("412 Precondition Failed", "");
        for (replies, ignored) in [
            (&[stored][..], "ignores If-None-Match"),
            (&[stored, taken, stored], "ignores If-Match"),
        ] {
            let server = ScriptedServer::start(replies);
            let store = ObjectStorage::connect(&url("s3://box/out"), &server.spec()).unwrap();
            let error = store.create("_batchclass/job.json", b"x").unwrap_err();
            assert!(matches!(error, StoreError::Lasting { .. }), "{error:?}");
            assert!(format!("{error:?}").contains(ignored), "{error:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_bucket_is_one_sentence_without_a_key() {
        let Some(bucket) = moto::bucket() else { return };
        let none = ObjectStorage::connect(&url("s3://no-such-box/x"), &spec(&bucket)).unwrap();
        for error in [none.list("").unwrap_err(), none.create("a", b"x").unwrap_err()] {
            assert!(matches!(error, StoreError::Lasting { .. }), "{error:?}");
            let shown = format!("{error:?}");
            assert!(shown.contains("there is no bucket `no-such-box`"), "{shown}");
            assert!(!shown.contains(moto::KEY_ID) && !shown.contains(moto::SECRET_KEY), "{shown}");
        }
        let mut nowhere = spec(&bucket);
        nowhere.endpoint_url = Some("http://127.0.0.1:1".to_owned());
        let nowhere = ObjectStorage::connect(&url("s3://box/x"), &nowhere).unwrap();
        let error = nowhere.list("").unwrap_err();
        assert!(matches!(error, StoreError::Passing { .. }), "{error:?}");
    }
}
