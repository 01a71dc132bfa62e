//! What calls were charged in the last day, over all runs: a restart does not forget what the
//! provider remembers.
//!
//! A call is noted before it is sent; until its charge is known its reservation counts in full.

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
use crate::domain::{Tokens, UnixMillis};

const FILE: &str = "charges.jsonl";
/// The longest ledger that a provider keeps.
const KEPT: Duration = Duration::from_hours(24);

/// A charge that may still stand in a provider's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastCharge {
    /// When the call was sent.
    pub at: UnixMillis,
    /// What it was charged, or what was reserved for it if that is not known.
    pub tokens: Tokens,
    /// Whether the charge is known.
    pub is_settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Sent { run: String, call: u64, tokens: Tokens, at: UnixMillis },
    Settled { run: String, call: u64, tokens: Tokens },
}

/// The charges of the 24 hours before `now` in the journal's `folder`, in order of time. Reads
/// only. One that claims to be later than `now` counts as of now: the clock was set back.
///
/// # Errors
/// If the file exists and can't be read.
pub fn past_charges(folder: &Path, now: UnixMillis) -> Result<Vec<PastCharge>, StoreError> {
    let (lines, _) = read(&folder.join(FILE))?;
    let mut charges = BTreeMap::new();
    for line in lines {
        match line {
            Line::Sent { run, call, tokens, at } => {
                let at = at.min(now);
                charges.insert((run, call), PastCharge { at, tokens, is_settled: false });
            }
            Line::Settled { run, call, tokens } => {
                if let Some(charge) = charges.get_mut(&(run, call)) {
                    charge.tokens = tokens;
                    charge.is_settled = true;
                }
            }
        }
    }
    let mut charges: Vec<PastCharge> =
        charges.into_values().filter(|charge| is_kept(charge.at, now)).collect();
    charges.sort_by_key(|charge| charge.at);
    Ok(charges)
}

/// The charges of this run, being written.
pub(super) struct Charges {
    path: PathBuf,
    run: String,
    now: UnixMillis,
    file: Option<AppendFile>,
    syncer: Arc<Syncer>,
}

impl Charges {
    /// Writes nothing before the first call.
    pub(super) fn new(folder: &Path, run: &str, now: UnixMillis, syncer: Arc<Syncer>) -> Charges {
        Charges { path: folder.join(FILE), run: run.to_owned(), now, file: None, syncer }
    }

    pub(super) fn sent(
        &mut self,
        call: u64,
        tokens: Tokens,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        self.append(&Line::Sent { run: self.run.clone(), call, tokens, at })
    }

    pub(super) fn settled(&mut self, call: u64, tokens: Tokens) -> Result<(), StoreError> {
        self.append(&Line::Settled { run: self.run.clone(), call, tokens })
    }

    fn append(&mut self, line: &Line) -> Result<(), StoreError> {
        let encoded = encode(&self.path, std::slice::from_ref(line))?;
        match &mut self.file {
            Some(file) => file.append(&encoded),
            None => {
                compact(&self.path, self.now)?;
                let file = AppendFile::open(self.path.clone(), Arc::clone(&self.syncer))?;
                self.file.insert(file).append(&encoded)
            }
        }
    }
}

/// Leaves in the file what is kept at `now`, and makes the file if there is none.
fn compact(path: &Path, now: UnixMillis) -> Result<(), StoreError> {
    let (mut lines, bytes) = read(path)?;
    let mut kept: BTreeMap<(String, u64), ()> = BTreeMap::new();
    lines.retain(|line| match line {
        Line::Sent { run, call, at, .. } if is_kept(*at, now) => {
            kept.insert((run.clone(), *call), ());
            true
        }
        Line::Sent { .. } => false,
        Line::Settled { run, call, .. } => kept.contains_key(&(run.clone(), *call)),
    });
    let encoded = encode(path, &lines)?;
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

fn is_kept(at: UnixMillis, now: UnixMillis) -> bool {
    Duration::from_millis(now.0.saturating_sub(at.0)) < KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;

    fn charges(folder: &Path, run: &str, now: u64) -> Charges {
        let syncer = Syncer::start(Duration::ZERO, std::fs::File::sync_data).unwrap();
        Charges::new(&folder.join("journal"), run, UnixMillis(now), Arc::new(syncer))
    }

    fn past(folder: &Path, now: u64) -> Vec<(u64, u32, bool)> {
        let past = past_charges(&folder.join("journal"), UnixMillis(now)).unwrap();
        past.iter().map(|it| (it.at.0, it.tokens.0, it.is_settled)).collect()
    }

    #[test]
    fn an_unsettled_call_counts_in_full_and_runs_do_not_settle_each_others() {
        let folder = tempfile::tempdir().unwrap();
        charges(folder.path(), "r1", 0).sent(1, Tokens(500), UnixMillis(10)).unwrap();
        let mut second = charges(folder.path(), "r2", 0);
        second.sent(1, Tokens(400), UnixMillis(20)).unwrap();
        second.settled(1, Tokens(300)).unwrap();
        assert_eq!(past(folder.path(), 30), [(10, 500, false), (20, 300, true)]);
    }

    #[test]
    fn charges_are_forgotten_after_a_day_and_the_file_shrinks_at_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = charges(folder.path(), "r1", 0);
        for call in 0..1_000 {
            first.sent(call, Tokens(1), UnixMillis(call)).unwrap();
            first.settled(call, Tokens(1)).unwrap();
        }
        drop(first);
        assert_eq!(past(folder.path(), DAY + 989).len(), 10);
        charges(folder.path(), "r2", DAY + 989).sent(0, Tokens(9), UnixMillis(DAY)).unwrap();
        let size = std::fs::metadata(folder.path().join("journal").join(FILE)).unwrap().len();
        assert!(size < 3_000, "{size}");
        assert_eq!(past(folder.path(), DAY + 989).len(), 11);
    }

    #[test]
    fn a_torn_tail_costs_no_other_charge() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal").join(FILE);
        charges(folder.path(), "r1", 0).sent(1, Tokens(500), UnixMillis(10)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            let torn = [&whole[..], &whole[..cut]].concat();
            let store = LocalStore::new(folder.path());
            store::put(&store, "journal/charges.jsonl", &torn).unwrap();
            charges(folder.path(), "r2", 0).sent(1, Tokens(1), UnixMillis(20)).unwrap();
            assert_eq!(past(folder.path(), 30), [(10, 500, false), (20, 1, false)], "cut {cut}");
        }
    }

    #[test]
    fn a_charge_from_the_future_counts_as_of_now() {
        let folder = tempfile::tempdir().unwrap();
        charges(folder.path(), "r1", 0).sent(1, Tokens(5), UnixMillis(900)).unwrap();
        assert_eq!(past(folder.path(), 30), [(30, 5, false)]);
    }
}
