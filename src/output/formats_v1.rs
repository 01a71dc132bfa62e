//! The samples of format version 1 in `fixtures/formats/v1/` load for ever.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::claim::Claimant;
use super::journal::{PastCharge, SYNC_WITHIN, past_bill, past_charges, replay};
use super::output_folder::tests::{spec, spent, write_all};
use super::part_writer::tests::sealed;
use super::*;
use crate::domain::{Billed, Charge, LabelIndex, Outcome, PartNumber, Tokens, UnixMillis};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats/v1/out")
}

fn append_fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats/v1/append")
}

/// A copy that a test may write to.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn an_output_of_version_1_is_read_with_all_that_it_holds() {
    let output = OutputFolder::new(fixture());
    let found = output.look().unwrap().unwrap();
    assert!(found.is_complete(), "{:?}", found.problems);
    assert_eq!((found.plan.rows(), found.plan.parts(), found.unlabelled_rows()), (25, 3, 8));
    assert_eq!(found.records[&PartNumber(1)].generation, 2);
    assert_eq!((found.spent.calls, found.success.as_ref().unwrap().labelled), (4, 17));

    let run = spec(20, "reader");
    let store = output.store().clone();
    let reader = PartReader::new(store, found.fingerprint, run.schema, run.codebook);
    let contents = reader.read(PartNumber(1)).unwrap();
    assert_eq!(contents.outcomes[0], Outcome::Labelled(LabelIndex(0)));
    assert_eq!(contents.outcomes[1..], sealed(1, contents.identity.range).outcomes[1..]);

    let folder = output.journal_folder();
    let mut replies = Vec::new();
    replay(&folder, found.fingerprint, &found.plan, |record| replies.push(record)).unwrap();
    assert_eq!(replies, [journal::tests_support::reply_for(1, &[0, 12])]);
    let charges = past_charges(&folder, UnixMillis(1_800_000_001_000)).unwrap();
    let at = UnixMillis(1_800_000_000_500);
    let billed = past_bill(&folder, found.fingerprint, Billed::NOTHING).unwrap();
    assert_eq!(billed.tokens(), 720 + 900);
    assert_eq!(
        charges,
        [
            PastCharge { at, charge: Charge::of_tokens(Tokens(720)).into(), is_settled: true },
            PastCharge { at, charge: Charge::of_tokens(Tokens(900)).into(), is_settled: false },
        ]
    );
    let claim = fs::read(fixture().join(CONTROL).join("claim-r1.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Claimant>(&claim).unwrap().run, "r1");
}

#[test]
fn a_run_goes_on_in_an_output_of_version_1() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(), folder.path());
    let open = OutputFolder::new(folder.path()).begin(spec(20, "r2")).unwrap();
    assert_eq!((open.recovery(), open.records().len()), (&Recovery::default(), 3));
    // The claim in the sample is that of a dead process.
    assert!(!folder.path().join(CONTROL).join("claim-r1.json").exists());
}

#[test]
fn an_output_of_version_1_that_replaces_nothing_is_read_with_all_that_it_holds() {
    let output = OutputFolder::new(append_fixture());
    let found = output.look().unwrap().unwrap();
    assert!(found.is_complete() && found.success.is_some(), "{:?}", found.problems);
    assert_eq!((found.job.layout, found.plan.parts()), (Layout::Append, 2));
    assert_eq!(
        found.file_names(),
        ["000001", "000001-r01", "000001-r02", "000002", "000002-r01"]
            .map(|name| format!("part-{name}.parquet"))
    );
    assert_eq!((found.unlabelled_rows(), found.absent_rows()), (4, 0));
    // The second part's first record stands in its second edition: the first was torn.
    assert_eq!(found.records[&PartNumber(2)].generation, 2);
    assert_eq!(found.spent.calls, 3);

    let run = spec(15, "reader");
    let store = output.store().clone();
    let reader = PartReader::new(store, found.fingerprint, run.schema, run.codebook);
    let contents = reader.of_files(&found).read(PartNumber(1)).unwrap();
    let mut outcomes = sealed(1, contents.identity.range).outcomes;
    outcomes[0] = Outcome::Labelled(LabelIndex(0));
    assert_eq!(contents.outcomes, outcomes);
}

#[test]
#[ignore = "writes the samples anew; only for a version that is not released yet"]
fn write_append_samples() {
    fs::remove_dir_all(append_fixture()).ok();
    let output = OutputFolder::new(append_fixture()).laid_out(Layout::Append);
    let mut run = spec(15, "r1");
    run.job.layout = Layout::Append;
    run.job.secret = Secret::from_bytes([7; 32]);
    let at = UnixMillis(1_800_000_000_900);
    let torn = "_batchclass/manifest/000002.json";
    let mut open = output.begin(run).unwrap();
    store::Store::create(output.store().as_ref(), torn, b"{\"checksum\":\"2e5f").unwrap();
    let parts =
        [1, 2].map(|number| sealed(number, open.plan().range_of(PartNumber(number)).unwrap()));
    for part in &parts {
        open.commit(part, spent(), at).unwrap();
    }
    let mut refilled = parts[0].clone();
    refilled.outcomes[0] = Outcome::Labelled(LabelIndex(0));
    open.commit(&refilled, spent(), at).unwrap();
    for part in &parts {
        open.give_up(part.number, &part.columns, at).unwrap();
    }
    open.finish(UnixMillis(1_800_000_001_000)).unwrap();
}

#[test]
#[ignore = "writes the samples anew; only for a version that is not released yet"]
fn write_samples() {
    fs::remove_dir_all(fixture()).ok();
    let output = OutputFolder::new(fixture());
    let mut run = spec(20, "r1");
    run.job.secret = Secret::from_bytes([7; 32]);
    let mut open = output.begin(run).unwrap();
    open.extend_plan(25, NonZeroU32::new(10).unwrap()).unwrap();
    write_all(&mut open).unwrap();
    open.start_work().unwrap();
    let mut part = sealed(1, open.plan().range_of(PartNumber(1)).unwrap());
    part.outcomes[0] = Outcome::Labelled(LabelIndex(0));
    open.commit(&part, spent(), UnixMillis(1_800_000_000_900)).unwrap();
    open.finish(UnixMillis(1_800_000_001_000)).unwrap();

    let spec = journal::JournalSpec {
        folder: output.journal_folder(),
        job: open.fingerprint(),
        run: "r1".into(),
        started: UnixMillis(1_800_000_000_000),
        least_billed: Billed::NOTHING,
        plan: open.plan().clone(),
        sync_within: SYNC_WITHIN,
        segment_bytes: journal::SEGMENT_BYTES,
    };
    let mut journal = journal::Journal::open(spec, &journal::Replay::default(), |_| true).unwrap();
    let at = UnixMillis(1_800_000_000_500);
    let most = Billed::of_tokens(Tokens(800), Tokens(100));
    journal.call_sent(1, Charge::of_tokens(Tokens(900)), most, at).unwrap();
    journal.reply(&journal::tests_support::reply_for(1, &[0, 12])).unwrap();
    journal.call_settled(1, Charge::of_tokens(Tokens(720)), most).unwrap();
    journal.call_sent(2, Charge::of_tokens(Tokens(900)), most, at).unwrap();
    journal.close().unwrap();
    let claimant = Claimant {
        version: FORMAT_VERSION,
        run: "r1".into(),
        host: "build-7".into(),
        pid: 4711,
        boot_id: "5f0c3f2e-0000-4000-8000-1b2c3d4e5f60".into(),
        pid_namespace: Some("pid:[4026531836]".into()),
        process_start: Some(123_456),
        sequence: Some(1),
        renewals: 0,
        started: UnixMillis(1_800_000_000_000),
    };
    drop(open);
    let claim = serde_json::to_vec(&claimant).unwrap();
    store::Store::create(output.store().as_ref(), "_batchclass/claim-r1.json", &claim).unwrap();
}
