//! What the storage of an output can promise, found out before a token is spent.
//!
//! A small object is made there and removed again, so far as storage removes anything. An output
//! that stands there already is not touched.

use std::fs;

use serde::Serialize;

use crate::domain::spec::Layout;
use crate::output::store::Kind;
use crate::output::{CONTROL, Kept, OutputError, OutputFolder, Promise, probe};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What kind of storage it is, in words.
    pub storage: String,
    /// How an output is laid out there.
    pub layout: Layout,
    /// What it promises, one by one.
    pub findings: Vec<Finding>,
}

/// One promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is called.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What it means for an output, or what came instead.
    pub detail: String,
}

/// How a promise came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is kept.
    Kept,
    /// It is not, and an output of this layout does without.
    NotNeeded,
    /// It is not, and no output can stand there.
    Broken,
}

impl Checked {
    /// Whether an output can stand there.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != State::Broken)
    }
}

/// Asks the storage of `folder`, for an output in the layout that it has or would have; `run` names
/// the object that it is asked with.
///
/// # Errors
/// If nothing can be written there, or what stands there can't be understood.
pub fn check(folder: OutputFolder, run: &str) -> Result<Checked, OutputError> {
    let was_there = folder.location().as_path().is_none_or(|path| path.exists());
    let found = folder.look()?;
    let layout = folder.layout(None, found.as_ref());
    let folder = folder.laid_out(layout);
    let kept = probe(folder.store().as_ref(), run);
    if !was_there {
        forget(&folder);
    }
    let mut findings: Vec<Finding> = kept?.into_iter().map(|kept| judge(kept, layout)).collect();
    findings.push(syncing(folder.kind()));
    findings.push(exclusion(folder.kind()));
    Ok(Checked { storage: words(folder.kind()), layout, findings })
}

/// Removes the folders that the probe made, so far as nothing else stands in them by now.
fn forget(folder: &OutputFolder) {
    if let Some(path) = folder.location().as_path() {
        // Where they stay they are empty, or no longer ours alone.
        let _ = fs::remove_dir(path.join(CONTROL)).and_then(|()| fs::remove_dir(path));
    }
}

fn judge(kept: Kept, layout: Layout) -> Finding {
    let Kept { promise, instead } = kept;
    let (name, meaning) = match promise {
        Promise::ReadBack => ("read back", "what was stored came back as it was"),
        Promise::CreateOnce => ("create once", "a name that is taken is not taken again"),
        Promise::FreshListing => ("fresh listing", "what was stored is listed at once"),
        Promise::Replace => {
            ("replace", "an object is replaced whole, in the version that was seen")
        }
        Promise::Remove => ("remove", "an object can be removed"),
    };
    let is_needed =
        layout == Layout::Replace || matches!(promise, Promise::ReadBack | Promise::CreateOnce);
    match instead {
        None => Finding { name, state: State::Kept, detail: meaning.to_owned() },
        Some(detail) => {
            let state = if is_needed { State::Broken } else { State::NotNeeded };
            Finding { name, state, detail }
        }
    }
}

fn syncing(kind: &Kind) -> Finding {
    let detail = match kind {
        Kind::LocalDisk | Kind::NetworkDisk { .. } => {
            "file and folder are synced: what is reported done outlives a power loss"
        }
        Kind::CreateOnceMount { .. } => {
            "synced, closed and read back; what the mount holds back in a cache of its own can't be \
             seen through it"
        }
        Kind::ObjectStore => "an object is durable once the service has answered",
        Kind::Memory => "nothing outlives the process",
    };
    Finding { name: "durable", state: State::Kept, detail: detail.to_owned() }
}

fn exclusion(kind: &Kind) -> Finding {
    let (state, detail) = match kind {
        Kind::LocalDisk | Kind::Memory => {
            (State::Kept, "a second run is told at once, and a dead one is nobody's obstacle")
        }
        Kind::NetworkDisk { .. }
        | Kind::ObjectStore
        | Kind::CreateOnceMount { has_fresh_listing: true, .. } => (
            State::Kept,
            "a second run is told at once; a dead one is known at once on its own host, elsewhere \
             after 10 minutes or with --takeover",
        ),
        Kind::CreateOnceMount { has_fresh_listing: false, .. } => (
            State::NotNeeded,
            "listings may be minutes old, so a run on another host can go unnoticed: run it from one \
             host only",
        ),
    };
    Finding { name: "one writer", state, detail: detail.to_owned() }
}

fn words(kind: &Kind) -> String {
    match kind {
        Kind::LocalDisk => "local disk".to_owned(),
        Kind::NetworkDisk { fstype } => format!("network disk ({fstype})"),
        Kind::CreateOnceMount { fstype, source, .. } => {
            format!("mounted bucket ({fstype}, {source})")
        }
        Kind::ObjectStore => "object storage".to_owned(),
        Kind::Memory => "memory".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::output::store::{CreateOnceStore, Fault, FaultyStore, MemoryStore, Then};

    fn states(checked: &Checked) -> Vec<(&str, State)> {
        checked.findings.iter().map(|finding| (finding.name, finding.state)).collect()
    }

    #[test]
    fn a_folder_that_is_not_there_is_checked_and_not_there_afterwards() {
        let above = tempfile::tempdir().unwrap();
        let location = above.path().join("out");
        let checked = check(OutputFolder::new(&location), "r1").unwrap();
        assert!(checked.is_sound() && checked.layout == Layout::Replace, "{checked:?}");
        assert!(states(&checked).iter().all(|(_, state)| *state == State::Kept), "{checked:?}");
        assert!(!location.exists());
    }

    #[test]
    fn what_a_layout_does_without_is_no_obstacle() {
        let store = CreateOnceStore::new(Arc::new(MemoryStore::default()));
        let kept = probe(&store, "r1").unwrap();
        let judged = |layout| -> Vec<State> {
            kept.iter().map(|kept| judge(kept.clone(), layout).state).collect()
        };
        use State::{Broken, Kept, NotNeeded};
        assert_eq!(judged(Layout::Append), [Kept, Kept, Kept, NotNeeded, NotNeeded]);
        assert_eq!(judged(Layout::Replace), [Kept, Kept, Kept, Broken, Broken]);
    }

    #[test]
    fn storage_that_gives_back_something_else_is_broken_in_any_layout() {
        let inner = Arc::new(MemoryStore::default());
        let store = FaultyStore::new(inner, 2, Fault::Lasting, Then::Recovers);
        let kept = probe(&store, "r1").unwrap();
        assert_eq!(judge(kept[0].clone(), Layout::Append).state, State::Broken);
    }
}
