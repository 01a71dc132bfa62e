//! Who claims: a process, so described that another one can tell whether it still lives.
//!
//! A number alone names no process: it is used again, after a reboot and in every container. Boot,
//! PID namespace, number and start time together name one for ever.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::super::job::FORMAT_VERSION;
use crate::domain::UnixMillis;

/// What a claim says of its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimant {
    /// The version of this form.
    pub version: u32,
    /// The run's name.
    pub run: String,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// The machine's boot, so that a process number is told from an earlier one.
    pub boot_id: String,
    /// The namespace that the process number counts in, as the kernel names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<String>,
    /// When the process began, in the kernel's ticks since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_start: Option<u64>,
    /// Which of its process's claims it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// How often the claim was renewed by replacing it.
    #[serde(default)]
    pub renewals: u64,
    /// When the run began.
    pub started: UnixMillis,
}

/// What can be seen of a claim's owner from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is seen to be gone.
    Dead,
    /// It is seen to be at work.
    Alive,
    /// It is out of sight: on another host, or in another container.
    OutOfSight,
}

/// What is found under a process number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// No process, or one that has ended and waits for its parent to notice.
    Nothing,
    /// A process that began at this tick.
    Process { start: u64 },
    /// A process of which nothing more can be seen.
    Hidden,
}

/// The machine, as this process sees it.
#[derive(Clone)]
pub(in crate::output) struct Host {
    pub(super) name: String,
    pub(super) boot_id: String,
    pub(super) pid_namespace: Option<String>,
    pub(super) pid: u32,
    pub(super) process_start: Option<u64>,
    pub(super) look_for: Arc<dyn Fn(u32) -> Sight + Send + Sync>,
}

impl Host {
    /// The machine that this process runs on.
    pub(in crate::output) fn this() -> Host {
        let kernel = |name: &str| {
            let value = fs::read_to_string(format!("/proc/sys/kernel/{name}"));
            value.map(|value| value.trim().to_owned()).ok()
        };
        let pid = std::process::id();
        let stat = fs::read_to_string("/proc/self/stat").ok();
        // Where `/proc` shows another namespace than the one that this process is in, the numbers
        // in it are not ours.
        let stat = stat.filter(|stat| stat.split(' ').next() == Some(pid.to_string().as_str()));
        let namespace = fs::read_link("/proc/self/ns/pid").ok().filter(|_| stat.is_some());
        Host {
            name: kernel("hostname").unwrap_or_else(|| "this host".to_owned()),
            boot_id: kernel("random/boot_id").unwrap_or_default(),
            pid_namespace: namespace.map(|link| link.display().to_string()),
            pid,
            process_start: stat.and_then(|stat| parse_stat(&stat)).map(|(_, start)| start),
            look_for: Arc::new(look_for),
        }
    }

    /// What this process says of itself in a claim.
    pub(super) fn claimant(&self, run: &str, sequence: u64, started: UnixMillis) -> Claimant {
        Claimant {
            version: FORMAT_VERSION,
            run: run.to_owned(),
            host: self.name.clone(),
            pid: self.pid,
            boot_id: self.boot_id.clone(),
            pid_namespace: self.pid_namespace.clone(),
            process_start: self.process_start,
            sequence: Some(sequence),
            renewals: 0,
            started,
        }
    }

    /// Whether the claim was made since this machine's boot, on this machine.
    pub(super) fn is_of_this_boot(&self, claimant: &Claimant) -> bool {
        !self.boot_id.is_empty() && claimant.boot_id == self.boot_id
    }

    /// What can be seen of the process that made the claim.
    pub(super) fn fate(&self, claimant: &Claimant) -> Fate {
        let is_here = self.is_of_this_boot(claimant)
            && self.pid_namespace.is_some()
            && claimant.pid_namespace == self.pid_namespace;
        let Some(start) = claimant.process_start.filter(|_| is_here) else {
            return Fate::OutOfSight;
        };
        if claimant.pid == self.pid && self.process_start == Some(start) {
            let is_held = claimant.sequence.is_some_and(|number| held().contains(&number));
            return if is_held { Fate::Alive } else { Fate::Dead };
        }
        match (self.look_for)(claimant.pid) {
            Sight::Nothing => Fate::Dead,
            Sight::Process { start: other } if other == start => Fate::Alive,
            Sight::Process { .. } => Fate::Dead,
            Sight::Hidden => Fate::OutOfSight,
        }
    }
}

/// The claims that this process holds: what it knows of itself, it need not guess.
static HELD: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

fn held() -> MutexGuard<'static, BTreeSet<u64>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of a claim of this process; while it lives, so does the claim.
#[derive(Debug)]
pub(super) struct Sequence(u64);

impl Sequence {
    pub(super) fn next() -> Sequence {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        held().insert(number);
        Sequence(number)
    }

    pub(super) fn number(&self) -> u64 {
        self.0
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        held().remove(&self.0);
    }
}

fn look_for(pid: u32) -> Sight {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => match parse_stat(&stat) {
            Some(('Z' | 'X', _)) => Sight::Nothing,
            Some((_, start)) => Sight::Process { start },
            None => Sight::Hidden,
        },
        // `/proc` may hide other users' processes; a signal tells whether there is one.
        Err(_) if is_free(pid) => Sight::Nothing,
        Err(_) => Sight::Hidden,
    }
}

fn is_free(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// State and start time in `/proc/PID/stat`. The program's name, which comes before them, may hold
/// blanks and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 22 of the line; the state is field 3.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use super::*;

    /// A host that can be seen into: only the processes in `running` are there, by their starts.
    pub(in super::super) fn host(name: &str, pid: u32, running: &'static [(u32, u64)]) -> Host {
        Host {
            name: name.into(),
            boot_id: format!("boot of {name}"),
            pid_namespace: Some("pid:[1]".into()),
            pid,
            process_start: Some(u64::from(pid) * 10),
            look_for: Arc::new(move |pid| {
                let found = running.iter().find(|(number, _)| *number == pid);
                found.map_or(Sight::Nothing, |(_, start)| Sight::Process { start: *start })
            }),
        }
    }

    #[test]
    fn a_process_is_known_by_boot_namespace_number_and_start_together() {
        let here = host("a", 1, &[(2, 20)]);
        let other = host("a", 2, &[]).claimant("r2", 1, UnixMillis(1));
        assert_eq!(here.fate(&other), Fate::Alive);
        let fate = |change: fn(&mut Claimant)| {
            let mut changed = other.clone();
            change(&mut changed);
            here.fate(&changed)
        };
        assert_eq!(fate(|it| it.pid = 3), Fate::Dead);
        // The number is that of a later process.
        assert_eq!(fate(|it| it.process_start = Some(19)), Fate::Dead);
        // Two containers share a boot, but no process number.
        assert_eq!(fate(|it| it.pid_namespace = Some("pid:[2]".into())), Fate::OutOfSight);
        assert_eq!(fate(|it| it.boot_id = "an earlier boot".into()), Fate::OutOfSight);
        // What an earlier version wrote.
        assert_eq!(fate(|it| it.pid_namespace = None), Fate::OutOfSight);
        assert_eq!(fate(|it| it.process_start = None), Fate::OutOfSight);
    }

    #[test]
    fn a_machine_that_says_nothing_of_itself_proves_nobody_dead() {
        let mut blind = host("a", 1, &[]);
        blind.boot_id = String::new();
        let other = blind.claimant("r2", 1, UnixMillis(1));
        assert_eq!(blind.fate(&other), Fate::OutOfSight);
    }

    #[test]
    fn a_claim_of_this_process_lives_as_long_as_it_is_held() {
        let here = Host::this();
        let sequence = Sequence::next();
        let claimant = here.claimant("r1", sequence.number(), UnixMillis(1));
        assert_eq!(here.fate(&claimant), Fate::Alive);
        drop(sequence);
        assert_eq!(here.fate(&claimant), Fate::Dead);
    }

    #[test]
    fn a_real_process_is_alive_until_it_ends_and_dead_before_its_parent_notices() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let Sight::Process { start } = look_for(child.id()) else { panic!("it is not seen") };
        let here = Host::this();
        let mut claimant = here.claimant("r1", 0, UnixMillis(1));
        (claimant.pid, claimant.process_start) = (child.id(), Some(start));
        assert_eq!(here.fate(&claimant), Fate::Alive);
        child.kill().unwrap();
        // Nobody has waited for it yet: it ends, and its number stays taken.
        while here.fate(&claimant) == Fate::Alive {
            std::thread::yield_now();
        }
        assert_eq!(look_for(child.id()), Sight::Nothing);
        child.wait().unwrap();
        assert_eq!(here.fate(&claimant), Fate::Dead);
    }

    #[test]
    fn a_programs_name_may_look_like_the_fields_after_it() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_stat(&format!("7 (a) Z 1) {rest}")), Some(('S', 4711)));
        assert_eq!(parse_stat("7 (a) S 1 2"), None);
    }

    #[test]
    fn a_claimant_of_the_first_form_is_read() {
        let json = r#"{"version":1,"run":"r","host":"h","pid":7,"boot_id":"b","started":9}"#;
        let read: Claimant = serde_json::from_str(json).unwrap();
        assert_eq!((read.pid, read.pid_namespace, read.renewals), (7, None, 0));
    }
}
