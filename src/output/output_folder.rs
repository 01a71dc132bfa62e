//! An output folder, looked at or written to: a part first, its record second.
//!
//! At any moment the parts that stand hold each row at most once, since a part's name follows from
//! its rows' places alone; once `_SUCCESS` stands they hold each planned row exactly once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::claim::{Claim, ClaimSpec, Host, Lockable, Place, Sleep};
use super::edition::{self, Standing};
use super::error::OutputError;
use super::found::{self, Evidence, Found};
use super::job::{FORMAT_VERSION, Fingerprint, Job, Layout};
use super::manifest::PartRecord;
use super::names::{self, CONTROL, SUCCESS};
use super::part_identity::PartError;
use super::part_reader::PartReader;
use super::part_schema::PartSchema;
use super::part_writer::{PartWriter, Provenance};
use super::recovery::{Recovery, recover};
use super::revision::{KnownInput, LaterStretch, Revision};
use super::store::{self, Kind, LocalStore, MountStore, ObjectStorage, Store, StoreError};
use super::success::Success;
use crate::domain::spec::CloudSpec;
use crate::domain::{Codebook, Location, PartEncoding, PartNumber, Plan, Stretch, UnixMillis};

/// Where an output is, or will be.
#[derive(Clone)]
pub struct OutputFolder {
    location: Location,
    kind: Kind,
    store: Arc<dyn Store>,
    /// Where the journal is, if not beside the parts.
    journal: Option<PathBuf>,
    takes_small_writes: bool,
}

/// What a run brings along to write to an output.
#[derive(Clone, Debug)]
pub struct WriterSpec {
    /// The run's job; its secret, time and stretch count only if the output is new.
    pub job: Job,
    /// The columns of its parts.
    pub schema: PartSchema,
    /// How they are encoded.
    pub encoding: PartEncoding,
    /// The labels.
    pub codebook: Arc<Codebook>,
    /// The column with the id.
    pub id_column: String,
    /// Who answers.
    pub provenance: Provenance,
    /// When the run began.
    pub started: UnixMillis,
    /// Whether another run's claim that is not seen to be alive is taken over.
    pub takeover: bool,
}

/// An output that this run alone writes to, until it is dropped.
pub struct OpenOutput {
    pub(super) folder: OutputFolder,
    pub(super) found: Found,
    recovery: Recovery,
    pub(super) writer: PartWriter,
    reader: PartReader,
    claim: Arc<Claim>,
}

impl OutputFolder {
    /// The folder at `location`, written as its kind of file system allows. Touches nothing.
    pub fn new(location: impl Into<PathBuf>) -> OutputFolder {
        let location = location.into();
        let kind = Kind::of_folder(&location);
        let store = store_of(&location, kind.layout());
        let takes_small_writes = kind.layout() == Layout::Replace;
        OutputFolder { location: location.into(), kind, store, journal: None, takes_small_writes }
    }

    /// The folder at `location`, wherever that is; object storage is reached as `cloud` says.
    /// Touches nothing.
    ///
    /// # Errors
    /// If the settings and credentials in `cloud` can't be used.
    pub fn at(location: &Location, cloud: &CloudSpec) -> Result<OutputFolder, StoreError> {
        let url = match location {
            Location::Path(path) => return Ok(OutputFolder::new(path)),
            Location::Object(url) => url,
        };
        Ok(OutputFolder {
            location: location.clone(),
            kind: Kind::ObjectStore,
            store: Arc::new(ObjectStorage::connect(url, cloud)?),
            journal: None,
            takes_small_writes: false,
        })
    }

    /// This folder for an output of `layout`: without replacing, also on a disk that could.
    pub fn laid_out(self, layout: Layout) -> OutputFolder {
        match (&self.kind, self.location.as_path()) {
            (
                Kind::LocalDisk | Kind::NetworkDisk { .. } | Kind::CreateOnceMount { .. },
                Some(folder),
            ) => {
                let store = store_of(folder, layout);
                OutputFolder { store, ..self }
            }
            _ => self,
        }
    }

    /// How a run lays the output out, where `found` stands already: as it was begun, or as the
    /// user wishes or the storage demands, which then differ from it.
    pub fn layout(&self, wish: Option<Layout>, found: Option<&Found>) -> Layout {
        let begun = found.map(|found| found.job.layout);
        let demanded = (self.kind.layout() == Layout::Append).then_some(Layout::Append);
        wish.or(demanded).or(begun).unwrap_or(self.kind.layout())
    }

    /// What kind of storage it is on.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The output that is kept in `store`; `location` on a local disk takes claims and journal.
    pub fn with_store(location: impl Into<PathBuf>, store: Arc<dyn Store>) -> OutputFolder {
        let location = location.into();
        OutputFolder {
            location: location.into(),
            kind: Kind::Memory,
            store,
            journal: None,
            takes_small_writes: true,
        }
    }

    /// The same output, as if in object storage: no lock excludes others, and a journal needs a
    /// folder elsewhere.
    pub fn off_disk(self) -> OutputFolder {
        OutputFolder { kind: Kind::ObjectStore, takes_small_writes: false, ..self }
    }

    /// The same output, with its journal in this folder of a local disk.
    pub fn with_journal_folder(self, folder: PathBuf) -> OutputFolder {
        OutputFolder { journal: Some(folder), ..self }
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The folder of its journal: beside the parts, unless it was given another one.
    pub fn journal_folder(&self) -> PathBuf {
        self.journal.clone().unwrap_or_else(|| self.journal_beside())
    }

    /// Where a journal beside the parts is.
    pub fn journal_beside(&self) -> PathBuf {
        self.location.join(names::JOURNAL).into()
    }

    /// Whether its storage takes a journal's small, frequent writes: it is on a disk.
    pub fn takes_small_writes(&self) -> bool {
        self.takes_small_writes
    }

    /// Its objects.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Reads the parts that `found` tells of.
    pub fn reader(&self, found: &Found, schema: PartSchema, codebook: Arc<Codebook>) -> PartReader {
        let store = Arc::clone(&self.store);
        PartReader::new(store, found.fingerprint, schema, codebook).of_files(found)
    }

    /// What stands there; `None` if nothing was begun. Reads only.
    ///
    /// # Errors
    /// If it is a file, holds something that is not ours, can't be understood or can't be read.
    pub fn look(&self) -> Result<Option<Found>, OutputError> {
        found::look(&self.location, self.store.as_ref())
    }

    /// What it says of itself, not yet held against its parts; `None` if nothing was begun.
    /// Reads only.
    ///
    /// # Errors
    /// If it is a file, holds something that is not ours, or its job or plan can't be understood.
    pub fn evidence(&self) -> Result<Option<Evidence>, OutputError> {
        Evidence::gather(&self.location, self.store.as_ref())
    }

    /// Claims the output for this run, begins it if it is new, and puts right what a crash left.
    ///
    /// # Errors
    /// As [`OutputFolder::look`]; also if another run is at work, or the output answers another
    /// job. A run that is refused leaves nothing behind but an empty control folder.
    pub fn begin(&self, spec: WriterSpec) -> Result<OpenOutput, OutputError> {
        // The rest is looked at once the output is claimed.
        found::read_own_job(&self.location, self.store.as_ref())?;
        let (run, started) = (spec.provenance.run.clone(), spec.started);
        let claimed = ClaimSpec { run, started, takeover: spec.takeover };
        let claim = Claim::acquire(self.claim_place(), claimed, &mut Sleep)?;
        self.open(spec, claim)
    }

    /// Begins with a claim that holds elsewhere, as a run does that wrongly believes it has one.
    #[cfg(test)]
    pub(in crate::output) fn begin_unclaimed(
        &self,
        spec: WriterSpec,
    ) -> Result<OpenOutput, OutputError> {
        let elsewhere = Arc::new(store::MemoryStore::default());
        let claim = Claim::in_store(elsewhere, &spec.provenance.run, spec.started);
        self.open(spec, claim)
    }

    fn open(&self, spec: WriterSpec, claim: Claim) -> Result<OpenOutput, OutputError> {
        // Another run may have come and gone since.
        let mut found = match self.look()? {
            Some(found) => found,
            None => self.create_job(&spec.job)?,
        };
        let differences = found.job.differences(&spec.job);
        if !differences.is_empty() {
            let path = self.location.to_string();
            return Err(OutputError::JobChanged { path, differences });
        }
        let mut recovery = recover(self.store.as_ref(), &mut found, spec.started)?;
        recovery.warnings.extend(self.claim_place().warning());
        recovery.warnings.extend(self.kind.warning());
        let job = found.fingerprint;
        let (schema, codebook) = (spec.schema, spec.codebook);
        let (store, id) = (Arc::clone(&self.store), &spec.id_column);
        let reader = PartReader::new(store, job, schema.clone(), Arc::clone(&codebook));
        Ok(OpenOutput {
            reader: reader.of_files(&found),
            writer: PartWriter::new(job, schema, codebook, id, spec.provenance, spec.encoding),
            folder: self.clone(),
            found,
            recovery,
            claim: Arc::new(claim),
        })
    }

    /// Where claims are made.
    fn claim_place(&self) -> Place {
        let control = self.location.join(CONTROL);
        let lockable = match (&self.kind, self.location.as_path()) {
            (Kind::LocalDisk | Kind::Memory, Some(_)) => {
                Lockable::ByThisKernelAlone(control.clone().into())
            }
            (Kind::NetworkDisk { .. }, Some(_)) => Lockable::ByOthersToo(control.clone().into()),
            _ => Lockable::Never,
        };
        let has_fresh_listings = match &self.kind {
            Kind::CreateOnceMount { has_fresh_listing, .. } => *has_fresh_listing,
            _ => true,
        };
        Place {
            store: Arc::clone(&self.store),
            folder: control,
            lockable,
            has_fresh_listings,
            host: Host::this(),
        }
    }

    fn create_job(&self, job: &Job) -> Result<Found, OutputError> {
        let encoded = job.encode().map_err(|error| self.unwritable(names::JOB, error))?;
        // Of an earlier one, `look` has found that it is torn and that nothing is bound to it.
        match edition::put_whole(self.store.as_ref(), names::JOB, &encoded, whole_or_torn) {
            // Another run was faster: its job is the output's.
            Err(StoreError::AlreadyExists { .. }) => {}
            stored => stored?,
        }
        self.look()?.ok_or_else(|| OutputError::Damaged {
            path: self.path(names::JOB),
            reason: "it is gone right after it was written".to_owned(),
        })
    }

    fn path(&self, name: &str) -> String {
        self.location.join(name)
    }

    pub(super) fn unwritable(&self, name: &str, error: serde_json::Error) -> OutputError {
        StoreError::from_io("writing", self.path(name), error.into()).into()
    }

    pub(super) fn part_error(&self, source: PartError) -> OutputError {
        OutputError::Part { path: self.location.to_string(), source }
    }
}

impl OpenOutput {
    /// The job, as the output keeps it: its secret and times are those of the first run.
    pub fn job(&self) -> &Job {
        &self.found.job
    }

    /// The job's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.found.fingerprint
    }

    /// All planned rows.
    pub fn plan(&self) -> &Plan {
        &self.found.plan
    }

    /// The input that the output was last held against.
    pub fn known_input(&self) -> &KnownInput {
        &self.found.known_input
    }

    /// Whether `_SUCCESS` stands.
    pub fn is_finished(&self) -> bool {
        self.found.success.is_some()
    }

    /// The newest records of the parts that stand.
    pub fn records(&self) -> &BTreeMap<PartNumber, PartRecord> {
        &self.found.records
    }

    /// What all records together say was spent.
    pub fn spent(&self) -> super::Spent {
        self.found.spent
    }

    /// What had to be put right.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Reads the output's parts.
    pub fn reader(&self) -> &PartReader {
        &self.reader
    }

    /// Where it is.
    pub fn folder(&self) -> &OutputFolder {
        &self.folder
    }

    /// The right to write to it, for whoever keeps it alive.
    pub fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// Plans further rows so that `rows` are planned in all; returns the new stretch, if any.
    ///
    /// # Errors
    /// If it can't be written; then the plan is as it was.
    pub fn extend_plan(
        &mut self,
        rows: u64,
        rows_per_part: NonZeroU32,
    ) -> Result<Option<Stretch>, OutputError> {
        let Some(stretch) = self.found.plan.clone().extend_to(rows, rows_per_part) else {
            return Ok(None);
        };
        self.add_to_plan(Some(stretch), None)?;
        Ok(Some(stretch))
    }

    /// Notes that the input changed, releases what `revision` says, and plans further rows so that
    /// `rows` are planned in all; returns the new stretch, if any.
    ///
    /// # Errors
    /// If it can't be written; then the plan is as it was.
    pub fn revise_plan(
        &mut self,
        revision: Revision,
        rows: u64,
        rows_per_part: NonZeroU32,
    ) -> Result<Option<Stretch>, OutputError> {
        let mut plan = self.found.plan.clone();
        plan.release(revision.released_parts());
        let stretch = plan.extend_to(rows, rows_per_part);
        self.add_to_plan(stretch, Some(revision))?;
        Ok(stretch)
    }

    fn add_to_plan(
        &mut self,
        stretch: Option<Stretch>,
        input: Option<Revision>,
    ) -> Result<(), OutputError> {
        let name = names::stretch(self.found.later_stretches + 2);
        let job = self.found.fingerprint;
        let later = LaterStretch { version: FORMAT_VERSION, job, stretch, input };
        let json = serde_json::to_vec_pretty(&later);
        let encoded = json.map_err(|error| self.folder.unwritable(&name, error))?;
        let (mut plan, mut known) = (self.found.plan.clone(), self.found.known_input.clone());
        later.add_to(&mut plan, &mut known).ok_or_else(|| OutputError::Damaged {
            path: self.folder.path(&name),
            reason: "it does not follow the plan before it".to_owned(),
        })?;
        let store = self.folder.store.as_ref();
        match edition::put_whole(store, &name, &encoded, whole_or_torn) {
            Err(StoreError::AlreadyExists { .. }) => {
                let reason = "it plans other rows".to_owned();
                return Err(OutputError::Damaged { path: self.folder.path(&name), reason });
            }
            stored => stored?,
        }
        (self.found.plan, self.found.known_input) = (plan, known);
        self.found.later_stretches += 1;
        Ok(())
    }

    /// Says that rows are asked again: `_SUCCESS` goes. To be called before the first call.
    ///
    /// Where nothing can be removed it stands only when nothing is left to ask, unless somebody
    /// took a part away.
    ///
    /// # Errors
    /// If storage fails; then no call may be sent.
    pub fn start_work(&mut self) -> Result<(), OutputError> {
        match self.folder.store.delete(SUCCESS) {
            Err(StoreError::Refused { .. }) => {}
            removed => {
                removed?;
                self.found.success = None;
            }
        }
        Ok(())
    }

    /// Whether a torn file stands among the parts, where every reader of them trips over it.
    ///
    /// # Errors
    /// [`OutputError::Stuck`] if one does that can't be removed through this storage.
    pub fn refuse_stuck(&self) -> Result<(), OutputError> {
        if self.found.stuck.is_empty() {
            return Ok(());
        }
        let files = self.found.stuck.iter().map(|name| self.folder.path(name)).collect();
        Err(OutputError::Stuck { files })
    }

    /// The files that stand, by name, in the order of the plan.
    pub fn file_names(&self) -> Vec<String> {
        self.found.file_names()
    }

    /// The totals of the parts that stand.
    pub fn totals(&self, now: UnixMillis) -> Success {
        self.found.totals(now)
    }

    /// Writes `_SUCCESS` with the totals, last of all.
    ///
    /// # Errors
    /// If a torn file can't be removed, if rows stand in no file yet, or if storage fails.
    pub fn finish(&mut self, now: UnixMillis) -> Result<Success, OutputError> {
        self.refuse_stuck()?;
        let rows = self.found.absent_rows();
        if rows > 0 {
            let path = self.folder.location.to_string();
            return Err(OutputError::Unfinished { path, rows });
        }
        let totals = self.totals(now);
        let json = serde_json::to_vec_pretty(&totals);
        let encoded = json.map_err(|error| self.folder.unwritable(SUCCESS, error))?;
        match store::put(self.folder.store.as_ref(), SUCCESS, &encoded) {
            // Cut in its making or by another run: all that it says is totals.
            Err(StoreError::Refused { .. }) => {}
            stored => drop(stored?),
        }
        self.found.success = Some(totals.clone());
        Ok(totals)
    }
}

/// What keeps the files at `location`.
fn store_of(location: &Path, layout: Layout) -> Arc<dyn Store> {
    match layout {
        Layout::Replace => Arc::new(LocalStore::new(location)),
        Layout::Append => Arc::new(MountStore::new(location)),
    }
}

/// What stands where a file of JSON was to be new.
fn whole_or_torn(bytes: &[u8]) -> Standing {
    if found::is_json(bytes) { Standing::Other } else { Standing::Torn }
}

#[cfg(test)]
pub(in crate::output) mod tests {
    use std::fs;

    use super::super::checked_line;
    use super::super::claim::ClaimError;
    use super::super::job::Secret;
    use super::super::job::tests::sample;
    use super::super::manifest::Spent;
    use super::super::part_writer::tests::{codebook, provenance, schema, sealed};
    use super::*;
    use crate::domain::{Outcome, Reason};

    /// A run over `rows` rows in parts of ten.
    pub(in crate::output) fn spec(rows: u64, run: &str) -> WriterSpec {
        let mut job = sample(rows, 10);
        job.secret = Secret::random().unwrap();
        WriterSpec {
            job,
            schema: schema(),
            encoding: PartEncoding::default(),
            codebook: codebook(),
            id_column: "id".into(),
            provenance: provenance(run),
            started: UnixMillis(1_800_000_000_000),
            takeover: false,
        }
    }

    /// Commits every planned part that does not stand, then `_SUCCESS`.
    pub(in crate::output) fn write_all(output: &mut OpenOutput) -> Result<(), OutputError> {
        let numbers: Vec<PartNumber> = output.plan().part_numbers().collect();
        for number in numbers {
            if !output.records().contains_key(&number) {
                let range = output.plan().range_of(number).unwrap();
                output.commit(&sealed(number.0, range), spent(), UnixMillis(5))?;
            }
        }
        output.finish(UnixMillis(6))?;
        Ok(())
    }

    pub(in crate::output) fn spent() -> Spent {
        Spent { prompt_tokens: 100, completion_tokens: 10, calls: 1, ..Spent::default() }
    }

    /// Every file below `folder` with its bytes.
    fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                files.extend(snapshot(&entry.path()));
            } else {
                files.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
        files
    }

    fn write(path: PathBuf, bytes: &[u8]) {
        let folder = LocalStore::new(path.parent().unwrap());
        store::put(&folder, path.file_name().unwrap().to_str().unwrap(), bytes).unwrap();
    }

    #[test]
    fn a_finished_output_is_complete_and_looking_at_it_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path().join("out"));
        assert!(output.look().unwrap().is_none());
        assert!(!output.location().as_path().unwrap().exists());
        write_all(&mut output.begin(spec(25, "r1")).unwrap()).unwrap();

        let before = snapshot(folder.path());
        let found = output.look().unwrap().unwrap();
        assert!(found.is_complete());
        assert_eq!((found.rows_done(), found.unlabelled_rows()), (25, 9));
        let success = found.success.unwrap();
        assert_eq!((success.rows, success.labelled, success.parts), (25, 16, 3));
        assert_eq!(success.unlabelled[&Reason::Missing], 9);
        assert_eq!(success.spent.calls, 3);
        assert_eq!(snapshot(folder.path()), before);
        let names: Vec<String> = before
            .keys()
            .map(|path| {
                path.strip_prefix(output.location().as_path().unwrap())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(names.len(), 8, "{names:?}");
    }

    #[test]
    fn an_output_stays_as_it_was_begun_unless_somebody_wishes_or_storage_demands_otherwise() {
        use Layout::{Append, Replace};
        let folder = tempfile::tempdir().unwrap();
        let mut begun = spec(25, "r1");
        begun.job.layout = Append;
        let disk = OutputFolder { kind: Kind::LocalDisk, ..OutputFolder::new(folder.path()) };
        drop(disk.clone().laid_out(Append).begin(begun).unwrap());
        let mut found = disk.look().unwrap();
        assert_eq!(disk.layout(None, None), Replace);
        assert_eq!(disk.layout(None, found.as_ref()), Append);
        assert_eq!(disk.layout(Some(Replace), found.as_ref()), Replace);
        let (fstype, source) = ("fuse.s3fs".to_owned(), "s3fs".to_owned());
        let kind = Kind::CreateOnceMount { fstype, source, has_fresh_listing: true };
        let mount = OutputFolder { kind, ..disk };
        assert_eq!(mount.layout(None, None), Append);
        found.as_mut().unwrap().job.layout = Replace;
        assert_eq!(mount.layout(None, found.as_ref()), Append);
        assert_eq!(mount.layout(Some(Replace), found.as_ref()), Replace);
    }

    #[test]
    fn the_first_runs_secret_stays() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        let first = spec(25, "r1");
        let secret = first.job.secret.clone();
        drop(output.begin(first).unwrap());
        let second = output.begin(spec(25, "r2")).unwrap();
        assert_eq!(second.job().secret, secret);
    }

    #[test]
    fn a_changed_job_is_refused_with_the_difference() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        drop(output.begin(spec(25, "r1")).unwrap());
        let mut changed = spec(25, "r2");
        changed.job.prompt.instructions = "Other.".into();
        let error = output.begin(changed).err().unwrap();
        assert!(error.is_usage() && error.to_string().contains("\"Other.\""), "{error}");
        // The refused run holds nothing.
        output.begin(spec(25, "r3")).unwrap();
    }

    #[test]
    fn a_second_run_is_refused_while_the_first_lives() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        let first = output.begin(spec(25, "r1")).unwrap();
        let error = output.begin(spec(25, "r2")).err().unwrap();
        assert!(matches!(error, OutputError::Claim(ClaimError::Held { .. })), "{error}");
        drop(first);
        output.begin(spec(25, "r2")).unwrap();
    }

    #[test]
    fn a_folder_with_other_things_and_a_file_are_refused_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.parquet");
        write(file.clone(), b"PAR1");
        let error = OutputFolder::new(&file).look().unwrap_err();
        assert!(matches!(error, OutputError::IsAFile { .. }), "{error}");
        let output = OutputFolder::new(folder.path());
        let error = output.begin(spec(1, "r1")).err().unwrap();
        assert!(
            matches!(&error, OutputError::NotOurs { example, .. } if example == "rows.parquet")
        );
        assert_eq!(snapshot(folder.path()).len(), 1);
    }

    #[test]
    fn an_output_of_a_later_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        drop(output.begin(spec(25, "r1")).unwrap());
        write(folder.path().join(names::JOB), br#"{"version": 2, "new": true}"#);
        let error = output.look().unwrap_err();
        assert!(matches!(error, OutputError::Newer { version: 2, .. }), "{error}");
    }

    #[test]
    fn a_damaged_job_of_a_begun_output_is_an_error_and_not_a_new_job() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        write_all(&mut output.begin(spec(25, "r1")).unwrap()).unwrap();
        write(folder.path().join(names::JOB), b"{");
        assert!(matches!(output.look().unwrap_err(), OutputError::Damaged { .. }));
        fs::remove_file(folder.path().join(names::JOB)).unwrap();
        assert!(matches!(output.look().unwrap_err(), OutputError::NotOurs { .. }));
    }

    #[test]
    fn a_missing_or_truncated_part_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        write_all(&mut output.begin(spec(35, "r1")).unwrap()).unwrap();
        fs::remove_file(folder.path().join("part-000001.parquet")).unwrap();
        let torn = folder.path().join("part-000002.parquet");
        let bytes = fs::read(&torn).unwrap();
        write(torn, &bytes[..bytes.len() - 1]);
        assert!(!output.look().unwrap().unwrap().is_complete());

        let mut open = output.begin(spec(35, "r2")).unwrap();
        assert_eq!(open.recovery().warnings.len(), 2, "{:?}", open.recovery());
        assert_eq!(open.records().len(), 2);
        write_all(&mut open).unwrap();
        assert_eq!(open.records()[&PartNumber(1)].generation, 2);
        assert!(output.look().unwrap().unwrap().is_complete());
    }

    #[test]
    fn a_refill_that_lost_its_record_is_kept_even_at_the_same_size() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        let mut open = output.begin(spec(25, "r1")).unwrap();
        write_all(&mut open).unwrap();
        open.start_work().unwrap();
        let number = PartNumber(2);
        let mut part = sealed(2, open.plan().range_of(number).unwrap());
        let contents = open.reader().read(number).unwrap();
        assert_eq!(contents.outcomes, part.outcomes);
        part.outcomes = contents.outcomes;
        part.columns = contents.columns;
        part.outcomes[2] = Outcome::Labelled(crate::domain::LabelIndex(0));
        let record = open.commit(&part, spent(), UnixMillis(7)).unwrap();
        assert_eq!((record.generation, record.unlabelled_rows()), (2, 2));
        drop(open);

        fs::remove_file(folder.path().join(names::record(number, 2))).unwrap();
        // As if both generations had the same size.
        let name = folder.path().join(names::record(number, 1));
        let mut first: PartRecord = checked_line::decode(&fs::read(&name).unwrap()).unwrap();
        first.bytes = record.bytes;
        write(name, &checked_line::encode(&first).unwrap());

        let open = output.begin(spec(25, "r2")).unwrap();
        assert_eq!(open.recovery().adopted, [number]);
        let adopted = &open.records()[&number];
        assert_eq!((adopted.generation, &adopted.sha256), (2, &record.sha256));
        assert_eq!(adopted.unlabelled_rows(), 2);
    }

    #[test]
    fn a_torn_record_is_made_anew_from_its_part() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        write_all(&mut output.begin(spec(25, "r1")).unwrap()).unwrap();
        let before = output.look().unwrap().unwrap().records;
        for name in [names::record(PartNumber(1), 1), names::record(PartNumber(2), 2)] {
            write(folder.path().join(name), b"{\"checksum\":");
        }
        let open = output.begin(spec(25, "r2")).unwrap();
        assert_eq!(open.recovery().adopted, [PartNumber(1)]);
        assert_eq!(open.records()[&PartNumber(1)].sha256, before[&PartNumber(1)].sha256);
        let found = output.look().unwrap().unwrap();
        assert!(found.is_complete(), "{:?}", found.problems);
    }

    #[test]
    fn a_part_of_another_job_is_refused_and_never_removed() {
        let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let output = OutputFolder::new(folder.path());
        drop(output.begin(spec(25, "r1")).unwrap());
        let stranger = OutputFolder::new(other.path());
        write_all(&mut stranger.begin(spec(25, "r1")).unwrap()).unwrap();
        let name = "part-000002.parquet";
        write(folder.path().join(name), &fs::read(other.path().join(name)).unwrap());
        let error = output.begin(spec(25, "r2")).err().unwrap();
        assert!(error.is_usage(), "{error}");
        assert!(folder.path().join(name).exists());
    }

    #[test]
    fn later_rows_are_planned_as_further_parts_and_stay_planned() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        let per_part = NonZeroU32::new(20).unwrap();
        let mut open = output.begin(spec(25, "r1")).unwrap();
        write_all(&mut open).unwrap();
        assert_eq!(open.extend_plan(25, per_part).unwrap(), None);
        open.extend_plan(60, per_part).unwrap().unwrap();
        open.extend_plan(61, per_part).unwrap().unwrap();
        let plan = open.plan().clone();
        assert_eq!(plan.parts(), 6);
        drop(open);
        let found = output.look().unwrap().unwrap();
        assert_eq!(found.plan, plan);
        assert!(!found.is_complete());
        // The last one torn in its making has planned nothing.
        write(folder.path().join(names::stretch(3)), b"{\"version\": 1");
        let mut open = output.begin(spec(25, "r2")).unwrap();
        assert_eq!(open.plan().rows(), 60);
        open.extend_plan(70, per_part).unwrap().unwrap();
        assert_eq!(output.look().unwrap().unwrap().plan.rows(), 70);
    }

    #[test]
    fn success_goes_before_work_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        write_all(&mut output.begin(spec(25, "r1")).unwrap()).unwrap();
        let mut open = output.begin(spec(25, "r2")).unwrap();
        assert!(folder.path().join(SUCCESS).exists());
        open.start_work().unwrap();
        assert!(!folder.path().join(SUCCESS).exists());
    }

    #[test]
    fn an_input_without_rows_is_a_complete_output() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        write_all(&mut output.begin(spec(0, "r1")).unwrap()).unwrap();
        assert!(output.look().unwrap().unwrap().is_complete());
    }

    #[test]
    fn neither_secret_nor_row_text_is_outside_job_and_parts() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::new(folder.path());
        let run = spec(25, "r1");
        let secret = crate::domain::hex::encode(&run.job.secret.bytes());
        write_all(&mut output.begin(run).unwrap()).unwrap();
        for (path, bytes) in snapshot(folder.path()) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(text.contains(&secret), path.ends_with("job.json"), "{path:?}");
            let is_part = path.extension().is_some_and(|extension| extension == "parquet");
            assert!(is_part || !text.contains("city 1"), "{path:?}");
        }
    }
}
