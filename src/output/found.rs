//! What stands in an output folder. Reads only: a finished output that is looked at is not touched.

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::edition;
use super::error::OutputError;
use super::job::{FORMAT_VERSION, Fingerprint, Job, Layout};
use super::manifest::{Manifest, PartRecord, Spent};
use super::names::{self, CONTROL, Generation, SUCCESS};
use super::part_identity::PartIdentity;
use super::revision::{KnownInput, LaterStretch};
use super::standing::PartFiles;
use super::store::{LocalStore, Store, StoreError, Stored};
use super::success::Success;
use crate::domain::{Location, PartNumber, Plan, UnixMillis};

/// An output, as it stands.
#[derive(Clone, Debug)]
pub struct Found {
    /// The job that it answers.
    pub job: Job,
    /// The job's fingerprint.
    pub fingerprint: Fingerprint,
    /// All planned rows.
    pub plan: Plan,
    /// The input that it was last held against.
    pub known_input: KnownInput,
    /// The newest records of the parts that stand.
    pub records: BTreeMap<PartNumber, PartRecord>,
    /// What all records together say was spent.
    pub spent: Spent,
    /// What the next run has to put right first.
    pub problems: Vec<Problem>,
    /// What the last finished run said, if no run was begun after it.
    pub success: Option<Success>,
    /// Parquet files that are no parts but would be read with them.
    pub foreign: Vec<String>,
    /// Torn files among the parts that can't be removed through this storage, by name.
    pub stuck: Vec<String>,
    /// The files of each part that has, or had, some.
    pub(super) files: BTreeMap<PartNumber, PartFiles>,
    /// How many stretches were planned later.
    pub(super) later_stretches: u32,
    pub(super) leftovers: Vec<String>,
}

/// Something that a crash, or a hand, left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A valid part whose record is missing or older.
    Unrecorded {
        /// What its footer says.
        identity: Box<PartIdentity>,
        /// The generation to record it under.
        generation: Generation,
    },
    /// A part that is cut or damaged.
    Torn {
        /// Which part.
        part: PartNumber,
        /// Which of its files.
        generation: Generation,
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A recorded part that is gone, or one of its files.
    Missing {
        /// Which part.
        part: PartNumber,
    },
    /// A record that can't be read.
    DamagedRecord {
        /// Its name.
        name: String,
    },
}

impl Found {
    /// Rows of finished parts. Where nothing is replaced, those without a label may not stand yet.
    pub fn rows_done(&self) -> u64 {
        self.records.values().map(|record| record.range.rows).sum()
    }

    /// Of those, rows without a label.
    pub fn unlabelled_rows(&self) -> u64 {
        self.records.values().map(PartRecord::unlabelled_rows).sum()
    }

    /// Rows of finished parts that stand in no file yet: where nothing is replaced, a row without a
    /// label is written once it is given up on.
    pub fn absent_rows(&self) -> u64 {
        self.records.values().map(PartRecord::absent_rows).sum()
    }

    /// The totals of the parts that stand.
    pub fn totals(&self, finished: UnixMillis) -> Success {
        let whole = self.files.values().flat_map(|files| files.whole.values());
        let (count, bytes) = whole.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        let newest = self.records.values();
        Success::of(self.fingerprint, newest, count, bytes, self.spent, finished)
    }

    /// The files that stand, by name, in the order of the plan.
    pub fn file_names(&self) -> Vec<String> {
        let files = self.files.iter();
        let names = files.flat_map(|(part, files)| {
            let generations = files.whole.keys();
            generations.map(|generation| names::part_file(self.job.layout, *part, *generation))
        });
        names.collect()
    }

    /// Whether every planned row is in a finished part and there is nothing to put right.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.rows_done() == self.plan.rows()
    }
}

/// What an output says of itself, read but not yet held against its parts.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The job that it answers.
    pub job: Job,
    /// The job's fingerprint.
    pub fingerprint: Fingerprint,
    /// All planned rows.
    pub plan: Plan,
    /// The input that it was last held against.
    pub known_input: KnownInput,
    /// All records.
    pub manifest: Manifest,
    /// What the last finished run said; `None` too if that can't be read.
    pub success: Option<Success>,
    later_stretches: u32,
    top: Vec<Stored>,
    control: Vec<Stored>,
}

impl Evidence {
    /// Reads job, plan, manifest and `_SUCCESS`; `None` if nothing was begun there.
    pub(super) fn gather(
        location: &Location,
        store: &dyn Store,
    ) -> Result<Option<Evidence>, OutputError> {
        let path = |name: &str| location.join(name);
        let Some((job, fingerprint)) = read_own_job(location, store)? else { return Ok(None) };
        let control = store.list(CONTROL)?;
        let (plan, known_input, later_stretches) =
            read_plan(store, &path, &job, fingerprint, &control)?;
        let manifest = Manifest::load(store, fingerprint)?;
        // After the records: a file stands before its record, so one that is recorded and not
        // listed is gone, and is not merely newer than the listing. What is to be done and the name
        // that it goes under both follow from this one listing.
        let top = list_top(location, store)?;
        let success = read_success(store, &top)?;
        Ok(Some(Evidence {
            job,
            fingerprint,
            plan,
            known_input,
            manifest,
            success,
            later_stretches,
            top,
            control,
        }))
    }

    /// The files of parts in the top folder, by their names.
    pub fn files(&self) -> impl Iterator<Item = (PartNumber, Generation)> {
        let layout = self.job.layout;
        self.top.iter().filter_map(move |stored| names::parse_part_file(layout, &stored.name))
    }

    /// The name of a part's file.
    pub fn file_name(&self, part: PartNumber, generation: Generation) -> String {
        names::part_file(self.job.layout, part, generation)
    }

    /// Whether there is a `_SUCCESS`, readable or not.
    pub fn has_success_file(&self) -> bool {
        self.top.iter().any(|stored| stored.name == SUCCESS)
    }

    /// Parquet files that are no parts but would be read with them.
    pub fn foreign(&self) -> Vec<String> {
        let names = self.top.iter().map(|stored| &stored.name);
        names
            .filter(|name| is_read_as_data(name))
            .filter(|name| names::parse_part_file(self.job.layout, name).is_none())
            .cloned()
            .collect()
    }
}

/// Looks at the output at `location`, kept in `store`; `None` if nothing was begun there.
pub(super) fn look(location: &Location, store: &dyn Store) -> Result<Option<Found>, OutputError> {
    let Some(evidence) = Evidence::gather(location, store)? else { return Ok(None) };
    let foreign = evidence.foreign();
    let Evidence { job, fingerprint, plan, known_input, manifest, success, .. } = evidence;
    let Evidence { later_stretches, top, control, .. } = evidence;
    if let Some(name) = manifest.foreign.first() {
        let path = location.join(name);
        let reason = "it is of another job or a later version".to_owned();
        return Err(OutputError::Damaged { path, reason });
    }
    let mut found = Found {
        job,
        fingerprint,
        plan,
        known_input,
        records: BTreeMap::new(),
        spent: manifest.spent,
        problems: Vec::new(),
        success,
        foreign,
        stuck: Vec::new(),
        files: BTreeMap::new(),
        later_stretches,
        leftovers: Vec::new(),
    };
    let records = store.list(names::MANIFEST)?;
    let journal = store.list(names::JOURNAL)?;
    let all = top.iter().chain(&control).chain(&records).chain(&journal);
    let leftovers = all.filter(|stored| LocalStore::is_leftover(&stored.name));
    found.leftovers = leftovers.map(|stored| stored.name.clone()).collect();
    // Where nothing is replaced a damaged record is as good as none: its part is recorded anew.
    if found.job.layout == Layout::Replace {
        let damaged = manifest.damaged.iter().cloned();
        found.problems.extend(damaged.map(|name| Problem::DamagedRecord { name }));
    }
    let part_error = |source| OutputError::Part { path: location.to_string(), source };
    found.compare(store, manifest, &top).map_err(part_error)?;
    if found.job.layout == Layout::Append && found.success.is_none() {
        // Cut in its making it can't be written again; all that it says is totals.
        let standing = top.iter().find(|stored| stored.name == SUCCESS);
        found.success = standing.map(|stored| found.totals(stored.modified));
    }
    Ok(Some(found))
}

/// Whether a file of JSON came through whole; no beginning of an object is an object.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What stands directly in the output.
fn list_top(location: &Location, store: &dyn Store) -> Result<Vec<Stored>, OutputError> {
    store.list("").map_err(|error| match error {
        StoreError::Lasting { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
            OutputError::IsAFile { path: location.to_string() }
        }
        error => error.into(),
    })
}

/// The job and its fingerprint; `None` if nothing was begun there. What is not ours is refused.
pub(super) fn read_own_job(
    location: &Location,
    store: &dyn Store,
) -> Result<Option<(Job, Fingerprint)>, OutputError> {
    let job = read_job(store, &|name: &str| location.join(name))?;
    if job.is_none() {
        refuse_foreign(location, store, &list_top(location, store)?)?;
    }
    Ok(job)
}

/// The job and its fingerprint; `None` if there is no job, or one that was torn in its making.
fn read_job(
    store: &dyn Store,
    path: &impl Fn(&str) -> String,
) -> Result<Option<(Job, Fingerprint)>, OutputError> {
    let bytes = match edition::read_whole(store, names::JOB, is_json) {
        Err(StoreError::NotFound { .. }) => return Ok(None),
        // The output is a file: listing it says so.
        Err(StoreError::Lasting { source, .. })
            if source.kind() == io::ErrorKind::NotADirectory =>
        {
            return Ok(None);
        }
        bytes => bytes?,
    };
    match serde_json::from_slice::<Version>(&bytes) {
        Ok(Version { version }) if version > FORMAT_VERSION => {
            return Err(OutputError::Newer { path: path(names::JOB), version });
        }
        _ => {}
    }
    match serde_json::from_slice(&bytes) {
        Ok(job) => Ok(Some((job, Fingerprint::of(&bytes)))),
        Err(error) => {
            let is_part = |name| names::parse_part_file(Layout::Append, name).is_some();
            let is_begun = store.list("")?.iter().any(|it| is_part(&it.name))
                || !store.list(names::MANIFEST)?.is_empty();
            if is_begun {
                let reason = error.to_string();
                return Err(OutputError::Damaged { path: path(names::JOB), reason });
            }
            // Nothing is bound to it yet.
            Ok(None)
        }
    }
}

/// The plan, the input that it is for, and how many files came to it later.
fn read_plan(
    store: &dyn Store,
    path: &impl Fn(&str) -> String,
    job: &Job,
    fingerprint: Fingerprint,
    control: &[Stored],
) -> Result<(Plan, KnownInput, u32), OutputError> {
    let gap = || OutputError::Damaged {
        path: path(names::JOB),
        reason: "its planned rows don't follow each other".to_owned(),
    };
    let mut plan = Plan::from_stretches(job.stretch.into_iter().collect()).ok_or_else(gap)?;
    let mut known_input = KnownInput::of_job(job);
    let mut numbers: Vec<u32> =
        control.iter().filter_map(|stored| names::parse_stretch(&stored.name)).collect();
    numbers.sort_unstable();
    let mut later = 0;
    for (at, number) in numbers.iter().enumerate() {
        let name = names::stretch(*number);
        let bytes = edition::read_whole(store, &name, is_json)?;
        match serde_json::from_slice::<LaterStretch>(&bytes) {
            Ok(LaterStretch { version, .. }) if version > FORMAT_VERSION => {
                return Err(OutputError::Newer { path: path(&name), version });
            }
            Ok(read) if read.job == fingerprint && *number == later + 2 => {
                read.add_to(&mut plan, &mut known_input).ok_or_else(gap)?;
                later += 1;
            }
            // Torn in its making: nothing was planned by it.
            Err(_) if at + 1 == numbers.len() => {}
            _ => {
                let reason = "it does not follow the plan before it".to_owned();
                return Err(OutputError::Damaged { path: path(&name), reason });
            }
        }
    }
    Ok((plan, known_input, later))
}

fn read_success(store: &dyn Store, top: &[Stored]) -> Result<Option<Success>, StoreError> {
    if !top.iter().any(|stored| stored.name == SUCCESS) {
        return Ok(None);
    }
    match store.read(SUCCESS) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        // A run that starts to work has just removed it.
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn refuse_foreign(
    location: &Location,
    store: &dyn Store,
    top: &[Stored],
) -> Result<(), OutputError> {
    let ours = format!("{CONTROL}/");
    let strange = top.iter().map(|stored| &stored.name).find(|name| {
        // Hidden files, and what a new file system holds, are nobody's data.
        **name != ours && *name != "lost+found/" && !name.starts_with('.')
    });
    if let Some(example) = strange {
        let path = location.to_string();
        return Err(OutputError::NotOurs { path, example: example.clone() });
    }
    if !store.list(names::MANIFEST)?.is_empty() {
        return Err(OutputError::Damaged {
            path: location.join(names::JOB),
            reason: "it is gone".to_owned(),
        });
    }
    Ok(())
}

/// Whether the usual readers of `out/*.parquet` take the file for data.
fn is_read_as_data(name: &str) -> bool {
    !name.contains('/') && !name.starts_with(['.', '_']) && name.ends_with(".parquet")
}
