//! What became of a row: a label, or the reason why there is none.

use serde::{Deserialize, Serialize};

use super::LabelIndex;

/// How often a row has been asked, over all runs.
pub type Attempts = u16;

/// What became of a row. A skip is a value, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The model (or a row with the same text) gave this label.
    Labelled(LabelIndex),
    /// The input had this label already; nobody was asked.
    Existing(Box<str>),
    /// No label.
    Unlabelled {
        /// Why.
        reason: Reason,
        /// How often it was asked.
        attempts: Attempts,
    },
}

impl Outcome {
    /// Whether the row has a label.
    pub fn is_labelled(&self) -> bool {
        !matches!(self, Outcome::Unlabelled { .. })
    }
}

/// Why a row has no label. Its snake-case name is what stands in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The reply left the row out, or was cut before it.
    Missing,
    /// The reply gave a code that is not in the codebook.
    UnknownCode,
    /// The reply gave the row two different codes.
    Conflicting,
    /// The provider or the model refused to classify it.
    Refused,
    /// Its text alone is over the token budget of a call.
    TooLong,
    /// The provider kept failing on the request that held it.
    ProviderError,
    /// The model declined by the `unsure` code.
    Unsure,
    /// Its text is null or blank, so there is nothing to classify.
    NoText,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Reason; 8] = [
        Reason::Missing,
        Reason::UnknownCode,
        Reason::Conflicting,
        Reason::Refused,
        Reason::TooLong,
        Reason::ProviderError,
        Reason::Unsure,
        Reason::NoText,
    ];

    /// The name in the output's reason column, in the manifest and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Missing => "missing",
            Reason::UnknownCode => "unknown_code",
            Reason::Conflicting => "conflicting",
            Reason::Refused => "refused",
            Reason::TooLong => "too_long",
            Reason::ProviderError => "provider_error",
            Reason::Unsure => "unsure",
            Reason::NoText => "no_text",
        }
    }

    /// Reads what [`Reason::name`] wrote; `None` for anything else.
    pub fn from_name(name: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Whether another run asks the row again without being told to.
    pub fn is_asked_again(self) -> bool {
        match self {
            Reason::Missing | Reason::UnknownCode | Reason::Conflicting | Reason::ProviderError => {
                true
            }
            Reason::Refused | Reason::TooLong | Reason::Unsure | Reason::NoText => false,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
