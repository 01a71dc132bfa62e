//! The words that stand for rows in a call: three digits, distinct within it, unguessable from
//! outside.
//!
//! Every batch draws fresh keys from a stream that is seeded by the job's secret, so that a row's
//! author can't name a neighbour and a reply to another batch matches nothing.

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::domain::RowId;

use super::one_line::fold;

/// Most rows in one call: the number of three-digit keys.
pub const MAX_KEYS: usize = 900;
const FIRST_KEY: usize = 100;

/// What stands for a row in a call and is echoed in the reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Box<str>);

impl Key {
    /// The row's own id as its key: folded to one line and trimmed. Two ids that differ only in
    /// what is folded away share a key; the matcher then answers neither.
    pub fn of_id(id: &RowId) -> Key {
        match id {
            RowId::Integer(id) => Key(id.to_string().into()),
            RowId::Text(id) => Key(fold(id).trim().into()),
        }
    }

    /// The key as it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the three-digit keys.
    pub fn is_three_digits(&self) -> bool {
        self.0.len() == 3
            && self.0.bytes().all(|byte| byte.is_ascii_digit())
            && !self.0.starts_with('0')
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// More rows than there are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a call of {0} rows has no keys for them all; rows_per_call is at most {MAX_KEYS}")]
pub struct TooManyRows(pub usize);

/// The keys of one run of a job.
#[derive(Clone)]
pub struct KeyStream {
    secret: [u8; 32],
    run: Box<str>,
}

impl KeyStream {
    /// The stream of the run called `run`, under the job's secret.
    pub fn new(secret: [u8; 32], run: &str) -> KeyStream {
        KeyStream { secret, run: run.into() }
    }

    /// `rows` distinct keys for the batch numbered `batch`, uniform over 100..=999 and in random
    /// order. The same batch of the same run always has the same keys.
    ///
    /// # Errors
    /// If `rows` is over [`MAX_KEYS`].
    pub fn draw(&self, batch: u64, rows: usize) -> Result<Vec<Key>, TooManyRows> {
        let seed = Sha256::new()
            .chain_update(self.secret)
            .chain_update(b"batch")
            .chain_update((self.run.len() as u64).to_le_bytes())
            .chain_update(self.run.as_bytes())
            .chain_update(batch.to_le_bytes());
        sample(seed, rows)
    }

    /// The job's one list of keys for the form `object`, ascending, the same in every run: the
    /// keys of `rows` rows are its first ones. A schema then depends on the number of rows only.
    ///
    /// # Errors
    /// If `rows` is over [`MAX_KEYS`].
    pub fn job_keys(&self, rows: usize) -> Result<Vec<Key>, TooManyRows> {
        if rows > MAX_KEYS {
            return Err(TooManyRows(rows));
        }
        let seed = Sha256::new().chain_update(self.secret).chain_update(b"job");
        let mut keys = sample(seed, MAX_KEYS)?;
        keys.truncate(rows);
        keys.sort_unstable();
        Ok(keys)
    }
}

impl std::fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyStream").field("run", &self.run).finish_non_exhaustive()
    }
}

fn sample(seed: Sha256, rows: usize) -> Result<Vec<Key>, TooManyRows> {
    if rows > MAX_KEYS {
        return Err(TooManyRows(rows));
    }
    let mut random = ChaCha8Rng::from_seed(seed.finalize().into());
    let drawn = index::sample(&mut random, MAX_KEYS, rows);
    Ok(drawn.into_iter().map(|index| Key((FIRST_KEY + index).to_string().into())).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn stream() -> KeyStream {
        KeyStream::new([7; 32], "run-1")
    }

    #[test]
    fn keys_are_distinct_and_have_three_digits() {
        for rows in [0, 1, 50, 200, MAX_KEYS] {
            let keys = stream().draw(3, rows).unwrap();
            assert_eq!(keys.len(), rows);
            assert_eq!(keys.iter().collect::<HashSet<_>>().len(), rows);
            assert!(keys.iter().all(Key::is_three_digits));
        }
    }

    #[test]
    fn more_rows_than_keys_is_an_error() {
        assert_eq!(stream().draw(0, 901), Err(TooManyRows(901)));
        assert_eq!(stream().job_keys(901), Err(TooManyRows(901)));
    }

    #[test]
    fn secret_run_and_batch_each_change_the_keys() {
        let keys = stream().draw(1, 50).unwrap();
        assert_eq!(keys, stream().draw(1, 50).unwrap());
        assert_ne!(keys, stream().draw(2, 50).unwrap());
        assert_ne!(keys, KeyStream::new([7; 32], "run-2").draw(1, 50).unwrap());
        assert_ne!(keys, KeyStream::new([8; 32], "run-1").draw(1, 50).unwrap());
    }

    #[test]
    fn every_key_is_drawn_about_equally_often() {
        let mut drawn = vec![0_u32; 1000];
        for batch in 0..900 {
            for key in stream().draw(batch, 50).unwrap() {
                drawn[key.as_str().parse::<usize>().unwrap()] += 1;
            }
        }
        // Each is expected 50 times, with a standard deviation of 7.
        assert!(drawn[100..].iter().all(|&times| (15..=90).contains(&times)));
    }

    #[test]
    fn keys_of_a_job_are_one_ascending_list_whatever_the_run() {
        let keys = stream().job_keys(50).unwrap();
        assert_eq!(keys, KeyStream::new([7; 32], "run-2").job_keys(50).unwrap());
        assert!(keys.is_sorted());
        let fewer: HashSet<_> = stream().job_keys(20).unwrap().into_iter().collect();
        assert!(fewer.is_subset(&keys.into_iter().collect()));
    }

    #[test]
    fn an_id_as_key_is_one_trimmed_line() {
        assert_eq!(Key::of_id(&RowId::Integer(-5)).as_str(), "-5");
        assert_eq!(Key::of_id(&RowId::Text(" a\tb\n".into())).as_str(), "a b");
    }

    #[test]
    fn a_key_stream_never_shows_its_secret() {
        assert!(!format!("{:?}", stream()).contains('7'));
    }
}
