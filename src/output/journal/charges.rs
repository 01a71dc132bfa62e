//! What calls were charged in the last day, over all runs: a restart does not forget what the
//! provider remembers.
//!
//! A call is noted before it is sent; until its charge is known its reservation counts in full.
//! Calls whose charge will not change any more are folded, a line for each minute, of the last three
//! minutes one for each tenth of a second, so that the file stays small however many there are. A
//! fold counts from its last call on: it leaves no limit early.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::checked_line;
use super::super::store::{self, LocalStore, StoreError};
use super::append_file::{AppendFile, make_private_folders};
use super::syncer::Syncer;
use crate::domain::{Charge, ChargeSum, Tokens, UnixMillis};

const FILE: &str = "charges.jsonl";
/// The longest ledger that a provider keeps: a day, which has 25 hours where the clocks are set
/// back, and an hour for clocks that are off.
const KEPT: Duration = Duration::from_hours(26);
/// For so long a limit a minute needs to know closely when calls were sent, and those whose charge is
/// not known stand by themselves.
const SINGLE: Duration = Duration::from_mins(3);
/// Calls that were sent within this are folded into one line.
const FOLD: Duration = Duration::from_mins(1);
/// Settled charges that are younger are summed over so long, as of the last of them: thousands of
/// calls a second take no more lines than a few.
const FINE_FOLD: Duration = Duration::from_millis(100);
/// After so many lines the file is folded.
const LINES_BETWEEN_FOLDS: u64 = 20_000;

/// Charges that may still stand in a provider's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastCharge {
    /// When the call was sent; the last one, of several.
    pub at: UnixMillis,
    /// What was charged, or what was reserved where that is not known.
    pub charge: ChargeSum,
    /// Whether the charge is known.
    pub is_settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Sent {
        run: String,
        call: u64,
        #[serde(flatten)]
        charge: LineCharge,
        at: UnixMillis,
    },
    Settled {
        run: String,
        call: u64,
        #[serde(flatten)]
        charge: LineCharge,
    },
    Folded {
        at: UnixMillis,
        #[serde(flatten)]
        charge: ChargeSum,
    },
}

/// A charge on its line. Without its parts all of it may be input, and all of it output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LineCharge {
    tokens: Tokens,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Tokens>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<Tokens>,
}

impl From<Charge> for LineCharge {
    fn from(charge: Charge) -> LineCharge {
        let Charge { tokens, input, output } = charge;
        LineCharge { tokens, input: Some(input), output: Some(output) }
    }
}

impl From<LineCharge> for ChargeSum {
    fn from(line: LineCharge) -> ChargeSum {
        let LineCharge { tokens, input, output } = line;
        Charge { tokens, input: input.unwrap_or(tokens), output: output.unwrap_or(tokens) }.into()
    }
}

/// The charges of the last 26 hours before `now` in the journal's `folder`, in order of time.
/// Reads only. One that claims to be later than `now` counts as of now: the clock was set back.
///
/// # Errors
/// If the file exists and can't be read.
pub fn past_charges(folder: &Path, now: UnixMillis) -> Result<Vec<PastCharge>, StoreError> {
    let (lines, _) = read(&folder.join(FILE))?;
    let (calls, folded) = calls_of(lines);
    let mut charges: Vec<PastCharge> = calls.into_values().chain(folded).collect();
    for charge in &mut charges {
        charge.at = charge.at.min(now);
    }
    charges.retain(|charge| age(charge.at, now) < KEPT);
    charges.sort_by_key(|charge| charge.at);
    Ok(charges)
}

/// Calls by run and number, and those that are folded.
type Calls = (BTreeMap<(String, u64), PastCharge>, Vec<PastCharge>);

fn calls_of(lines: Vec<Line>) -> Calls {
    let (mut calls, mut folded) = (BTreeMap::new(), Vec::new());
    for line in lines {
        match line {
            Line::Sent { run, call, charge, at } => {
                let charge = PastCharge { at, charge: charge.into(), is_settled: false };
                calls.insert((run, call), charge);
            }
            Line::Settled { run, call, charge } => {
                if let Some(known) = calls.get_mut(&(run, call)) {
                    known.charge = charge.into();
                    known.is_settled = true;
                }
            }
            Line::Folded { at, charge } => {
                folded.push(PastCharge { at, charge, is_settled: true });
            }
        }
    }
    (calls, folded)
}

/// The charges of this run, being written.
pub(super) struct Charges {
    path: PathBuf,
    run: String,
    now: UnixMillis,
    file: Option<AppendFile>,
    lines_since_fold: u64,
    syncer: Arc<Syncer>,
}

impl Charges {
    /// Writes nothing before the first call.
    pub(super) fn new(folder: &Path, run: &str, now: UnixMillis, syncer: Arc<Syncer>) -> Charges {
        let (path, run) = (folder.join(FILE), run.to_owned());
        Charges { path, run, now, file: None, lines_since_fold: 0, syncer }
    }

    pub(super) fn sent(
        &mut self,
        call: u64,
        charge: Charge,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        self.now = self.now.max(at);
        self.append(&Line::Sent { run: self.run.clone(), call, charge: charge.into(), at })
    }

    pub(super) fn settled(&mut self, call: u64, charge: Charge) -> Result<(), StoreError> {
        self.append(&Line::Settled { run: self.run.clone(), call, charge: charge.into() })
    }

    fn append(&mut self, line: &Line) -> Result<(), StoreError> {
        if self.lines_since_fold >= LINES_BETWEEN_FOLDS {
            self.file = None;
        }
        self.lines_since_fold += 1;
        let encoded = encode(&self.path, std::slice::from_ref(line))?;
        match &mut self.file {
            Some(file) => file.append(&encoded),
            None => {
                fold(&self.path, &self.run, self.now)?;
                self.lines_since_fold = 0;
                let file = AppendFile::open(self.path.clone(), Arc::clone(&self.syncer))?;
                self.file.insert(file).append(&encoded)
            }
        }
    }
}

/// Leaves in the file what is kept at `now`, folded as far as it will not change any more, and
/// makes the file if there is none. Calls of `run` may yet be settled; those of others are over.
fn fold(path: &Path, run: &str, now: UnixMillis) -> Result<(), StoreError> {
    let (lines, bytes) = read(path)?;
    let encoded = encode(path, &folded(lines, run, now))?;
    if bytes == Some(encoded.len() as u64) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    make_private_folders(folder)
        .map_err(|source| StoreError::from_io("making", folder.display().to_string(), source))?;
    let within = folder.file_name().unwrap_or_default().to_string_lossy();
    let above = folder.parent().unwrap_or(Path::new(""));
    store::put(&LocalStore::new(above), &format!("{within}/{FILE}"), &encoded).map(drop)
}

fn folded(lines: Vec<Line>, this_run: &str, now: UnixMillis) -> Vec<Line> {
    let (calls, earlier) = calls_of(lines);
    let mut sums: BTreeMap<(Duration, u128), (UnixMillis, ChargeSum)> = BTreeMap::new();
    let mut fold_in = |past: PastCharge| {
        let width = if age(past.at, now) >= SINGLE { FOLD } else { FINE_FOLD };
        let (at, sum) = sums.entry((width, u128::from(past.at.0) / width.as_millis())).or_default();
        *at = past.at.max(*at);
        *sum += past.charge;
    };
    let is_kept = |past: &PastCharge| age(past.at, now) < KEPT;
    earlier.into_iter().filter(is_kept).for_each(&mut fold_in);
    let mut singles = Vec::new();
    for ((run, call), past) in calls.into_iter().filter(|(_, past)| is_kept(past)) {
        if past.is_settled || (age(past.at, now) >= SINGLE && run != this_run) {
            fold_in(past);
            continue;
        }
        let narrow = |amount: u64| Tokens(u32::try_from(amount).unwrap_or(u32::MAX));
        let ChargeSum { tokens, input, output, .. } = past.charge;
        let charge = LineCharge {
            tokens: narrow(tokens),
            input: Some(narrow(input)),
            output: Some(narrow(output)),
        };
        singles.push(Line::Sent { run, call, charge, at: past.at });
    }
    let sums = sums.into_values().map(|(at, charge)| Line::Folded { at, charge });
    sums.chain(singles).collect()
}

fn encode(path: &Path, lines: &[Line]) -> Result<Vec<u8>, StoreError> {
    let encoded: serde_json::Result<Vec<Vec<u8>>> =
        lines.iter().map(checked_line::encode).collect();
    let encoded = encoded
        .map_err(|error| StoreError::from_io("writing", path.display().to_string(), error.into()));
    Ok(encoded?.concat())
}

/// The valid lines and the file's size; `None` if there is no file.
fn read(path: &Path) -> Result<(Vec<Line>, Option<u64>), StoreError> {
    let steps = || -> io::Result<(Vec<Line>, Option<u64>)> {
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
            file => file?,
        };
        let bytes = file.metadata()?.len();
        let mut lines = Vec::new();
        for line in BufReader::new(file).split(b'\n') {
            lines.extend(checked_line::decode(&line?));
        }
        Ok((lines, Some(bytes)))
    };
    steps().map_err(|source| StoreError::from_io("reading", path.display().to_string(), source))
}

/// How long ago `at` was; nothing for what is to come.
fn age(at: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(at.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;

    fn charges(folder: &Path, run: &str, now: u64) -> Charges {
        let syncer = Syncer::start(Duration::ZERO, std::fs::File::sync_data).unwrap();
        Charges::new(&folder.join("journal"), run, UnixMillis(now), Arc::new(syncer))
    }

    fn of(tokens: u32) -> Charge {
        Charge::of_tokens(Tokens(tokens))
    }

    fn past(folder: &Path, now: u64) -> Vec<(u64, u64, bool)> {
        let past = past_charges(&folder.join("journal"), UnixMillis(now)).unwrap();
        past.iter().map(|it| (it.at.0, it.charge.tokens, it.is_settled)).collect()
    }

    fn size(folder: &Path) -> u64 {
        std::fs::metadata(folder.join("journal").join(FILE)).unwrap().len()
    }

    #[test]
    fn an_unsettled_call_counts_in_full_and_runs_do_not_settle_each_others() {
        let folder = tempfile::tempdir().unwrap();
        charges(folder.path(), "r1", 0).sent(1, of(500), UnixMillis(10)).unwrap();
        let mut second = charges(folder.path(), "r2", 0);
        second.sent(1, of(400), UnixMillis(20)).unwrap();
        second.settled(1, of(300)).unwrap();
        assert_eq!(past(folder.path(), 30), [(10, 500, false), (20, 300, true)]);
    }

    #[test]
    fn charges_are_forgotten_after_a_day_of_25_hours_and_one_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = charges(folder.path(), "r1", 0);
        for call in 0..1_000 {
            first.sent(call, of(1), UnixMillis(call)).unwrap();
            first.settled(call, of(1)).unwrap();
        }
        drop(first);
        assert_eq!(past(folder.path(), 26 * HOUR + 989).len(), 10);
        let later = 26 * HOUR + 989;
        charges(folder.path(), "r2", later).sent(0, of(9), UnixMillis(later)).unwrap();
        assert!(size(folder.path()) < 1_000, "{}", size(folder.path()));
        assert_eq!(past(folder.path(), later), [(999, 10, true), (later, 9, false)]);
    }

    #[test]
    fn the_file_stays_small_however_many_calls_a_run_makes() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = charges(folder.path(), "r1", 0);
        for call in 0..30_000_u64 {
            run.sent(call, of(2_000), UnixMillis(call * 500)).unwrap();
            if call % 1_000 != 7 {
                run.settled(call, of(1_850)).unwrap();
            }
        }
        // More than four hours: some 250 minutes, and what came since the last fold.
        assert!(size(folder.path()) < 4 << 20, "{}", size(folder.path()));
        let total: u64 = past(folder.path(), 15_000_000).iter().map(|(_, tokens, _)| tokens).sum();
        assert_eq!(total, 30 * 2_000 + 29_970 * 1_850);
    }

    #[test]
    fn a_call_in_flight_is_settled_after_a_fold() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = charges(folder.path(), "r1", 0);
        run.sent(1, of(500), UnixMillis(0)).unwrap();
        run.lines_since_fold = LINES_BETWEEN_FOLDS;
        run.sent(2, of(400), UnixMillis(HOUR)).unwrap();
        run.settled(1, of(300)).unwrap();
        assert_eq!(past(folder.path(), HOUR), [(0, 300, true), (HOUR, 400, false)]);
    }

    proptest! {
        #[test]
        fn folding_never_makes_a_charge_smaller_or_earlier(
            calls in prop::collection::vec((0_u64..100_000_000, 1_u32..5_000, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut lines = Vec::new();
            for (call, (at, tokens, is_settled, is_ours)) in (0..).zip(calls) {
                let run = if is_ours { "r2" } else { "r1" }.to_owned();
                let charge = LineCharge::from(of(tokens));
                lines.push(Line::Sent { run: run.clone(), call, charge, at: UnixMillis(at) });
                if is_settled {
                    lines.push(Line::Settled { run, call, charge: of(tokens / 2).into() });
                }
            }
            let now = UnixMillis(100_000_000);
            let since = |lines: Vec<Line>, from: u64| -> u64 {
                let (calls, folded) = calls_of(lines);
                let kept = calls.into_values().chain(folded);
                kept.filter(|it| it.at.0 >= from).map(|it| it.charge.tokens).sum()
            };
            let after = folded(lines.clone(), "r2", now);
            for from in (now.0 - 26 * HOUR + 1..now.0).step_by(977_777) {
                prop_assert!(since(after.clone(), from) >= since(lines.clone(), from));
            }
            prop_assert_eq!(since(after.clone(), 0), since(lines, now.0 - 26 * HOUR + 1));
            prop_assert_eq!(folded(after.clone(), "r2", now), after);
        }
    }

    #[test]
    fn a_torn_tail_costs_no_other_charge() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal").join(FILE);
        charges(folder.path(), "r1", 0).sent(1, of(500), UnixMillis(10)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            let torn = [&whole[..], &whole[..cut]].concat();
            let store = LocalStore::new(folder.path());
            store::put(&store, "journal/charges.jsonl", &torn).unwrap();
            charges(folder.path(), "r2", 0).sent(1, of(1), UnixMillis(20)).unwrap();
            assert_eq!(past(folder.path(), 30), [(10, 500, false), (20, 1, false)], "cut {cut}");
        }
    }

    #[test]
    fn a_charge_from_the_future_counts_as_of_now() {
        let folder = tempfile::tempdir().unwrap();
        charges(folder.path(), "r1", 0).sent(1, of(5), UnixMillis(900)).unwrap();
        assert_eq!(past(folder.path(), 30), [(30, 5, false)]);
    }
}
