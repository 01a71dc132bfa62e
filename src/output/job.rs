//! What an output is: the job that it answers, as `job.json` keeps it from the first run on.
//!
//! It never changes. Rows that are planned later, and an input that changed, add `job-000002.json` and
//! so on; a run whose job differs is refused with the differences.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

pub use crate::domain::spec::Layout;
use crate::domain::spec::{IdSource, OnDuplicateId, ProviderKind};
use crate::domain::{JobSpec, Label, Plan, Reading, Stretch, Template, UnixMillis, hex};

/// The version of every format in an output folder that this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// A job, as its output remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// When the output was begun.
    pub created: UnixMillis,
    /// The program's version that began it.
    pub batchclass: String,
    /// Seeds the keys of all calls.
    pub secret: Secret,
    /// How parts are filled.
    pub layout: Layout,
    /// What is read.
    pub input: InputIdentity,
    /// What is asked.
    pub prompt: PromptIdentity,
    /// Who is asked.
    pub model: ModelIdentity,
    /// The name of the label's column; the reason's column adds `_reason`.
    pub label_column: String,
    /// The rows that were planned first; `None` if the input had none.
    pub stretch: Option<Stretch>,
    /// Of an output that another one was rewritten into: what that was then, and how it is
    /// rewritten, as a hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten_from: Option<String>,
}

/// The input that a job read, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputIdentity {
    /// Its files, in order.
    pub files: Vec<FileIdentity>,
    /// How its files become rows, as far as that was told.
    #[serde(default, skip_serializing_if = "Reading::is_default")]
    pub reading: Reading,
    /// Where a row's id comes from.
    pub id: IdSource,
    /// How a row's text is made.
    pub text: Template,
    /// The column whose values are passed through as labels.
    pub existing_label: Option<String>,
    /// The columns that go along, in their order; absent, all of them do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// What a repeated id does.
    pub on_duplicate_id: OnDuplicateId,
    /// Rows of the input, planned or not.
    pub rows: u64,
}

/// One file of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Its name, as the input calls it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last changed.
    pub modified: UnixMillis,
}

/// What the model is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptIdentity {
    /// The instructions.
    pub instructions: String,
    /// The labels, in the order of the prompt.
    pub labels: Vec<Label>,
    /// The code by which the model declines.
    pub unsure_code: Option<String>,
    /// The name of the label for whatever no other label fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_of_these: Option<String>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Which service.
    pub provider: ProviderKind,
    /// The model's name.
    pub name: String,
    /// The host that is asked, so that a rehearsal's answers never count as the model's own.
    #[serde(default)]
    pub host: String,
    /// The fingerprint of the rows that the embedded scorer learns from, if there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<String>,
}

impl Job {
    /// The job of `spec` over an input of `rows` rows in `files`, with a fresh secret; its first
    /// rows are planned, up to the row limit. Without a wish its layout is `replace`.
    ///
    /// # Errors
    /// If the machine has no randomness to give.
    pub fn new(
        spec: &JobSpec,
        files: Vec<FileIdentity>,
        rows: u64,
        created: UnixMillis,
    ) -> Result<Job, getrandom::Error> {
        let planned = spec.row_limit.map_or(rows, |limit| rows.min(limit.get()));
        Ok(Job {
            version: FORMAT_VERSION,
            created,
            batchclass: env!("CARGO_PKG_VERSION").to_owned(),
            secret: Secret::random()?,
            layout: spec.output.layout.unwrap_or(Layout::Replace),
            input: InputIdentity {
                files,
                reading: spec.input.reading.clone(),
                id: spec.input.id.clone(),
                text: spec.input.text.clone(),
                existing_label: spec.input.existing_label.clone(),
                columns: spec.input.columns.clone(),
                on_duplicate_id: spec.input.on_duplicate_id,
                rows,
            },
            prompt: PromptIdentity {
                instructions: spec.instructions.clone(),
                labels: spec.codebook.labels().to_vec(),
                unsure_code: spec.codebook.unsure_code().map(str::to_owned),
                none_of_these: spec.codebook.none_of_these().map(|label| label.name.clone()),
            },
            model: ModelIdentity {
                provider: spec.model.provider,
                name: spec.model.name.clone(),
                host: spec.model.host(),
                fit: spec.model.fit.as_ref().map(|known| known.fingerprint().to_owned()),
            },
            label_column: spec.output.label_column.clone(),
            rewritten_from: None,
            stretch: Plan::default().extend_to(planned, spec.output.rows_per_part()),
        })
    }

    /// The bytes of `job.json`.
    ///
    /// # Errors
    /// If a part of it has no JSON form.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }
}

/// 32 random bytes that only the job's owner knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A fresh one.
    ///
    /// # Errors
    /// If the machine has no randomness to give.
    pub fn random() -> Result<Secret, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Secret(bytes))
    }

    /// A known one, for tests and rehearsals.
    pub fn from_bytes(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let bytes = hex::decode(&digits);
        bytes.map(Secret).ok_or_else(|| serde::de::Error::custom("the secret has 64 hex digits"))
    }
}

/// The SHA-256 of `job.json`: what parts, manifest entries and the journal name their job by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these bytes of a `job.json`.
    pub fn of(job_json: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(job_json).into())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let bytes = hex::decode(&digits).map(Fingerprint);
        bytes.ok_or_else(|| serde::de::Error::custom("a fingerprint has 64 hex digits"))
    }
}

#[cfg(test)]
pub(in crate::output) mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::domain::{PartNumber, Position, PositionRange};

    /// A job over `rows` rows in parts of `rows_per_part`.
    pub(in crate::output) fn sample(rows: u64, rows_per_part: u32) -> Job {
        let label = |name: &str, code: &str| Label {
            name: name.into(),
            code: code.into(),
            description: String::new(),
            examples: Vec::new(),
        };
        Job {
            rewritten_from: None,
            version: FORMAT_VERSION,
            created: UnixMillis(1_800_000_000_000),
            batchclass: "0.1.0".into(),
            secret: Secret::from_bytes([7; 32]),
            layout: Layout::Replace,
            input: InputIdentity {
                files: vec![FileIdentity {
                    name: "rows.parquet".into(),
                    bytes: 1_000,
                    modified: UnixMillis(1_799_999_999_000),
                }],
                reading: Reading::default(),
                id: IdSource::Column("id".into()),
                text: Template::parse("{street}, {city}").unwrap(),
                existing_label: None,
                columns: None,
                on_duplicate_id: OnDuplicateId::Error,
                rows,
            },
            prompt: PromptIdentity {
                instructions: "You classify addresses.".into(),
                labels: vec![label("Urban", "A"), label("Rural", "B")],
                unsure_code: None,
                none_of_these: None,
            },
            model: ModelIdentity {
                provider: ProviderKind::Openai,
                name: "gpt-4o-mini".into(),
                host: "api.openai.com".into(),
                fit: None,
            },
            label_column: "label".into(),
            stretch: (rows > 0).then(|| Stretch {
                range: PositionRange { first: Position(0), rows },
                rows_per_part: NonZeroU32::new(rows_per_part).unwrap(),
                first_part: PartNumber(1),
            }),
        }
    }

    #[test]
    fn a_job_reads_back_and_its_fingerprint_is_that_of_its_bytes() {
        let job = sample(25, 10);
        let bytes = job.encode().unwrap();
        assert_eq!(serde_json::from_slice::<Job>(&bytes).unwrap(), job);
        let mut other = job.clone();
        other.secret = Secret::from_bytes([8; 32]);
        assert_ne!(Fingerprint::of(&bytes), Fingerprint::of(&other.encode().unwrap()));
    }

    #[test]
    fn the_secret_is_in_no_debug_output() {
        assert!(!format!("{:?}", sample(1, 1)).contains("0707"));
        assert_ne!(Secret::random().unwrap(), Secret::random().unwrap());
    }
}
