//! The kinds of storage that a rehearsed output can be on, each as strict as the real one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batchclass::domain::spec::{CloudSpec, Layout};
use batchclass::domain::{JobSpec, Location};
use batchclass::output::store::{
    CreateOnceStore, LocalStore, MemoryStore, MountStore, ObjectStorage, Store,
};
use batchclass::pipeline::RunReport;

use super::moto::{self, TestBucket};
use super::rehearsal::{Asked, Rehearsal, orders_job, stored_rows};
use super::{OutputRow, Scratch, orders_csv, rows_in};

/// The rows of a rehearsed job.
pub const ROWS: usize = 40;

/// Where an output is, and so how it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This process's memory, where anything can be replaced.
    Memory,
    /// Memory that refuses what Mountpoint for S3 refuses: nothing is replaced or removed.
    CreateOnce,
    /// A folder that is written as a mount is; it removes.
    Mount,
    /// The same, and it refuses to remove.
    StrictMount,
    /// A folder of a local disk.
    LocalDisk,
    /// A real S3 server.
    Bucket,
}

impl Place {
    pub fn layout(self) -> Layout {
        match self {
            Place::Memory | Place::LocalDisk | Place::Bucket => Layout::Replace,
            Place::CreateOnce | Place::Mount | Place::StrictMount => Layout::Append,
        }
    }

    /// Every how manyth call a fault is put at: of a server, which takes milliseconds, a third.
    pub fn stride(self) -> usize {
        if self == Place::Bucket { 3 } else { 1 }
    }

    /// The store there, as a run sees it and as its owner does, who may remove what a run can't.
    /// The bucket is found by `environment`.
    pub fn stores(
        self,
        scratch: &Path,
        url: &str,
        environment: BTreeMap<String, String>,
    ) -> [Arc<dyn Store>; 2] {
        let out = scratch.join("out");
        let strict = |raw: Arc<dyn Store>| -> [Arc<dyn Store>; 2] {
            [Arc::new(CreateOnceStore::new(Arc::clone(&raw))), raw]
        };
        let store: Arc<dyn Store> = match self {
            Place::CreateOnce => return strict(Arc::new(MemoryStore::default())),
            Place::StrictMount => return strict(Arc::new(MountStore::new(out))),
            Place::Memory => Arc::new(MemoryStore::default()),
            Place::Mount => Arc::new(MountStore::new(out)),
            Place::LocalDisk => Arc::new(LocalStore::new(out)),
            Place::Bucket => {
                let Ok(Location::Object(url)) = Location::parse(url.as_ref()) else {
                    panic!("{url} is no bucket")
                };
                let spec = CloudSpec { environment, ..CloudSpec::default() };
                Arc::new(ObjectStorage::connect(&url, &spec).unwrap())
            }
        };
        [Arc::clone(&store), store]
    }
}

/// A place with nothing in it, and beside it a folder with the rows.
pub struct Site {
    pub scratch: Scratch,
    /// As a run sees it.
    pub store: Arc<dyn Store>,
    /// As its owner sees it, who may remove what a run can't.
    raw: Arc<dyn Store>,
    place: Place,
    bucket: Option<TestBucket>,
}

impl Site {
    /// `None` where there is no such place.
    pub fn new(place: Place) -> Option<Site> {
        let scratch = Scratch::new();
        scratch.write("orders.csv", &orders_csv(ROWS));
        let bucket = match place {
            Place::Bucket => Some(moto::bucket()?),
            _ => None,
        };
        let url = bucket.as_ref().map(|bucket| bucket.url("out")).unwrap_or_default();
        let environment = bucket.iter().flat_map(TestBucket::environment);
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).collect();
        let [store, raw] = place.stores(&scratch.path("."), &url, environment);
        Some(Site { scratch, store, raw, place, bucket })
    }

    pub fn bucket(&self) -> Option<&TestBucket> {
        self.bucket.as_ref()
    }

    /// The job over all rows, in parts of 15.
    pub fn job(&self) -> JobSpec {
        job(self.place, &self.scratch.path("."))
    }

    /// The rows that stand, by their ids.
    pub fn rows(&self) -> Vec<OutputRow> {
        let mut rows = stored_rows(self.store.as_ref());
        rows.sort_by_key(|row| row.id);
        rows
    }

    /// Lets `run` finish the output; where it says that a torn part has to be removed, that is done.
    /// Returns how many were.
    pub fn finish(&self, case: &str, run: impl Fn(Arc<dyn Store>) -> RunReport) -> usize {
        let report = run(Arc::clone(&self.store));
        if report.is_success {
            return 0;
        }
        let why = report.stopped_by.as_deref().unwrap_or_default();
        let torn = self.torn_parts();
        for part in &torn {
            assert!(why.contains(part), "{case}: {report:?}");
            self.raw.delete(part).unwrap();
        }
        let report = run(Arc::clone(&self.store));
        assert!(report.is_success, "{case}: {report:?}");
        torn.len()
    }

    fn torn_parts(&self) -> Vec<String> {
        let names = self.raw.list("").unwrap().into_iter().map(|stored| stored.name);
        let parts = names.filter(|name| name.ends_with(".parquet"));
        parts.filter(|name| rows_in(self.raw.read(name).unwrap()).is_none()).collect()
    }
}

/// The job over the rows beside a place, in parts of 15.
pub fn job(place: Place, scratch: &Path) -> JobSpec {
    let mut job = orders_job(&scratch.join("orders.csv"), &scratch.join("out"), 15);
    job.output.layout = Some(place.layout());
    job.output.state_folder = Some(scratch.join("state"));
    if place == Place::Bucket {
        // A rehearsal's waits are a thousand times as short as they say, and a server takes its time.
        job.give_up_after = Duration::from_secs(60_000);
    }
    job
}

/// The rows of an output that no fault has touched.
pub fn clean_rows() -> Vec<OutputRow> {
    let site = Site::new(Place::Memory).unwrap();
    let rehearsal = Rehearsal::of(&site.job(), Arc::clone(&site.store));
    let report = rehearsal.run(Asked::default().provider()).unwrap();
    assert!(report.is_success && report.rows == ROWS as u64, "{report:?}");
    site.rows()
}
