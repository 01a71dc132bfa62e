//! Paid answers that do not stand in a part yet, and what calls were charged.
//!
//! A reply is in the file before it is parsed; only the sync is grouped. A segment goes when all
//! its rows stand in committed parts. Nothing is written before the first call of a run.

mod append_file;
mod charges;
mod placement;
mod record;
mod replay;
mod syncer;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use append_file::AppendFile;
use charges::Charges;
pub use charges::{PastCharge, past_bill, past_charges};
pub use placement::{absolute, folder_name};
#[cfg(test)]
pub(in crate::output) use record::tests as tests_support;
pub use record::{JournaledRow, ReplyEnd, ReplyRecord};
use record::{Line, SegmentHeader, segment_name};
pub use replay::{Replay, replay};
use syncer::Syncer;

use super::checked_line;
use super::job::{FORMAT_VERSION, Fingerprint};
use super::store::StoreError;
use crate::domain::{Billed, Charge, PartNumber, Plan, UnixMillis};

/// Default of [`JournalSpec::sync_within`].
pub const SYNC_WITHIN: Duration = Duration::from_millis(50);
/// Default of [`JournalSpec::segment_bytes`]: 8 MiB.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// Where and for whom a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalSpec {
    /// Its folder, on a local disk; made, for the owner alone, when the first call is sent.
    pub folder: PathBuf,
    /// The job that all its entries are bound to.
    pub job: Fingerprint,
    /// This run's name.
    pub run: String,
    /// When this run began.
    pub started: UnixMillis,
    /// What the job was billed for at the least before this run, by the output's own records.
    pub least_billed: Billed,
    /// The job's planned rows.
    pub plan: Plan,
    /// Longest time from a write to its sync.
    pub sync_within: Duration,
    /// The size from which a segment is followed by a new one.
    pub segment_bytes: u64,
}

/// The journal of one run, open for writing.
pub struct Journal {
    spec: JournalSpec,
    charges: Charges,
    active: Option<Segment>,
    /// Segments that are written no more, by number.
    closed: BTreeMap<u32, Closed>,
    next_segment: u32,
    syncer: Arc<Syncer>,
}

struct Segment {
    number: u32,
    file: AppendFile,
    /// Parts that will hold its rows and are not committed yet.
    waiting: BTreeSet<PartNumber>,
}

struct Closed {
    path: PathBuf,
    waiting: BTreeSet<PartNumber>,
}

impl Journal {
    /// Opens the journal after `replay` told what earlier runs left in it. Of their segments those
    /// stay that hold rows of a part for which `is_open` says that this run writes it; the others
    /// have served and are removed.
    ///
    /// # Errors
    /// If a segment can't be removed, or there is no thread for the syncs.
    pub fn open(
        spec: JournalSpec,
        replay: &Replay,
        is_open: impl Fn(PartNumber) -> bool,
    ) -> Result<Journal, StoreError> {
        let syncer = Syncer::start(spec.sync_within, std::fs::File::sync_data);
        let syncer = Arc::new(syncer.map_err(|source| {
            StoreError::from_io("syncing", spec.folder.display().to_string(), source)
        })?);
        let charges = Charges::new(&spec, Arc::clone(&syncer));
        let mut journal = Journal {
            charges,
            active: None,
            closed: BTreeMap::new(),
            next_segment: replay.last_segment() + 1,
            syncer,
            spec,
        };
        for segment in replay.segments() {
            let waiting = segment.parts.iter().copied().filter(|part| is_open(*part)).collect();
            let path = journal.spec.folder.join(segment_name(segment.number));
            journal.closed.insert(segment.number, Closed { path, waiting });
        }
        journal.remove_served()?;
        Ok(journal)
    }

    /// Notes that call `call` of this run is about to be sent, with `reserved` reserved for it under
    /// the limits; it can be billed for `most` at the most.
    ///
    /// # Errors
    /// If it can't be written, or an earlier write could not be synced: then the call must not be
    /// sent.
    pub fn call_sent(
        &mut self,
        call: u64,
        reserved: Charge,
        most: Billed,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        self.charges.sent(call, reserved, most, at)
    }

    /// Keeps a reply, before anything is made of it.
    ///
    /// # Errors
    /// If it can't be written, or an earlier write could not be synced.
    pub fn reply(&mut self, record: &ReplyRecord) -> Result<(), StoreError> {
        if self.active.as_ref().is_some_and(|it| it.file.bytes() >= self.spec.segment_bytes) {
            self.close_segment()?;
        }
        let parts: BTreeSet<PartNumber> =
            record.rows.iter().filter_map(|row| self.spec.plan.part_of(row.position)).collect();
        let line = self.encode(&Line::Reply(Cow::Borrowed(record)))?;
        let segment = match self.active.take() {
            Some(segment) => segment,
            None => self.begin_segment()?,
        };
        let segment = self.active.insert(segment);
        segment.file.append(&line)?;
        segment.waiting.extend(parts);
        Ok(())
    }

    /// Notes what call `call` of this run was charged and billed for, or that it failed at a charge of
    /// `charged`.
    ///
    /// # Errors
    /// If it can't be written, or an earlier write could not be synced.
    pub fn call_settled(
        &mut self,
        call: u64,
        charged: Charge,
        billed: Billed,
    ) -> Result<(), StoreError> {
        self.charges.settled(call, charged, billed)
    }

    /// Takes note that a part stands, with every answer to its rows so far in it; segments that
    /// nothing else waits for are removed.
    ///
    /// # Errors
    /// If one can't be removed; it is tried again at the next call.
    pub fn part_committed(&mut self, part: PartNumber) -> Result<(), StoreError> {
        if let Some(active) = &mut self.active {
            active.waiting.remove(&part);
        }
        for segment in self.closed.values_mut() {
            segment.waiting.remove(&part);
        }
        self.remove_served()
    }

    /// Syncs what is not synced yet and removes the last segment if nothing waits for it.
    ///
    /// # Errors
    /// If a sync fails, now or earlier.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.close_segment()?;
        self.syncer.sync_now()
    }

    fn begin_segment(&mut self) -> Result<Segment, StoreError> {
        let number = self.next_segment;
        let header = self.encode(&Line::Segment(SegmentHeader {
            version: FORMAT_VERSION,
            job: self.spec.job,
            run: self.spec.run.clone(),
            started: self.spec.started,
        }))?;
        let path = self.spec.folder.join(segment_name(number));
        let file = AppendFile::create(path, &header, Arc::clone(&self.syncer))?;
        self.next_segment += 1;
        Ok(Segment { number, file, waiting: BTreeSet::new() })
    }

    fn close_segment(&mut self) -> Result<(), StoreError> {
        if let Some(Segment { number, file, waiting }) = self.active.take() {
            self.closed.insert(number, Closed { path: file.path().to_owned(), waiting });
        }
        self.remove_served()
    }

    fn remove_served(&mut self) -> Result<(), StoreError> {
        let is_served = |(_, segment): &(&u32, &Closed)| segment.waiting.is_empty();
        let served: Vec<u32> =
            self.closed.iter().filter(is_served).map(|(number, _)| *number).collect();
        for number in served {
            if let Some(segment) = self.closed.get(&number) {
                append_file::remove(&segment.path)?;
                self.closed.remove(&number);
            }
        }
        Ok(())
    }

    fn encode(&self, line: &Line<'_>) -> Result<Vec<u8>, StoreError> {
        checked_line::encode(line).map_err(|error| {
            StoreError::from_io("writing", self.spec.folder.display().to_string(), error.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU32;
    use std::path::Path;

    use super::record::tests::reply_for;
    use super::*;
    use crate::domain::Tokens;

    /// 40 rows in parts of ten.
    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.extend_to(40, NonZeroU32::new(10).unwrap()).unwrap();
        plan
    }

    fn spec(folder: &Path, run: &str) -> JournalSpec {
        JournalSpec {
            folder: folder.join("journal"),
            job: Fingerprint::of(b"job"),
            run: run.to_owned(),
            started: UnixMillis(1_000),
            least_billed: Billed::NOTHING,
            plan: plan(),
            sync_within: Duration::from_millis(1),
            segment_bytes: 1,
        }
    }

    fn open(folder: &Path, run: &str, is_open: impl Fn(PartNumber) -> bool) -> Journal {
        let spec = spec(folder, run);
        let left = replay(&spec.folder, spec.job, &spec.plan, |_| ()).unwrap();
        Journal::open(spec, &left, is_open).unwrap()
    }

    fn replayed(folder: &Path) -> Vec<ReplyRecord> {
        let mut records = Vec::new();
        let spec = spec(folder, "r");
        replay(&spec.folder, spec.job, &spec.plan, |record| records.push(record)).unwrap();
        records
    }

    fn segments(folder: &Path) -> usize {
        let entries = fs::read_dir(folder.join("journal")).into_iter().flatten();
        entries
            .filter(|entry| entry.as_ref().is_ok_and(|it| it.file_name() != "charges.jsonl"))
            .count()
    }

    #[test]
    fn replies_come_back_over_runs_in_the_order_of_their_arrival() {
        let folder = tempfile::tempdir().unwrap();
        for run in 0..3 {
            let mut journal = open(folder.path(), &format!("r{run}"), |_| true);
            for call in 0..3 {
                journal.reply(&reply_for(run * 3 + call, &[1, 12])).unwrap();
            }
        }
        let calls: Vec<u64> = replayed(folder.path()).iter().map(|record| record.call).collect();
        assert_eq!(calls, (0..9).collect::<Vec<_>>());
        assert_eq!(replayed(folder.path())[8], reply_for(8, &[1, 12]));
    }

    #[test]
    fn a_segment_goes_when_all_its_parts_are_committed_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), "r1", |_| true);
        journal.reply(&reply_for(1, &[1, 12])).unwrap();
        journal.reply(&reply_for(2, &[13, 25])).unwrap();
        journal.part_committed(PartNumber(1)).unwrap();
        assert_eq!(segments(folder.path()), 2);
        journal.part_committed(PartNumber(2)).unwrap();
        assert_eq!(segments(folder.path()), 1);
        journal.part_committed(PartNumber(3)).unwrap();
        journal.close().unwrap();
        assert_eq!(segments(folder.path()), 0);
    }

    #[test]
    fn an_answer_after_its_parts_commit_waits_for_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), "r1", |_| true);
        journal.reply(&reply_for(1, &[1])).unwrap();
        journal.part_committed(PartNumber(1)).unwrap();
        journal.reply(&reply_for(2, &[2])).unwrap();
        journal.close().unwrap();
        assert_eq!(replayed(folder.path()), [reply_for(2, &[2])]);
    }

    #[test]
    fn a_later_run_keeps_the_segments_of_the_parts_that_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), "r1", |_| true);
        for (call, row) in [(1, 1), (2, 12), (3, 25)] {
            journal.reply(&reply_for(call, &[row])).unwrap();
        }
        drop(journal);
        let mut journal = open(folder.path(), "r2", |part| part == PartNumber(2));
        assert_eq!(replayed(folder.path()), [reply_for(2, &[12])]);
        journal.reply(&reply_for(4, &[13])).unwrap();
        drop(journal);
        assert_eq!(replayed(folder.path()), [reply_for(2, &[12]), reply_for(4, &[13])]);
    }

    #[test]
    fn nothing_is_written_before_the_first_call() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "r1", |_| true).close().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    fn of(tokens: u32) -> Charge {
        Charge::of_tokens(Tokens(tokens))
    }

    #[test]
    fn charges_outlive_the_segments() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path(), "r1", |_| true);
        journal.call_sent(1, of(900), Billed::NOTHING, UnixMillis(5_000)).unwrap();
        journal.reply(&reply_for(1, &[1])).unwrap();
        journal.call_settled(1, of(700), Billed::NOTHING).unwrap();
        journal.call_sent(2, of(900), Billed::NOTHING, UnixMillis(6_000)).unwrap();
        journal.part_committed(PartNumber(1)).unwrap();
        journal.close().unwrap();
        assert_eq!(segments(folder.path()), 0);
        let past = past_charges(&folder.path().join("journal"), UnixMillis(7_000)).unwrap();
        assert_eq!(
            past,
            [
                PastCharge { at: UnixMillis(5_000), charge: of(700).into(), is_settled: true },
                PastCharge { at: UnixMillis(6_000), charge: of(900).into(), is_settled: false },
            ]
        );
    }
}
