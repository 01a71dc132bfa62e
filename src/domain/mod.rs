//! The words that all stages share: plain values, no I/O, no async.

pub mod charge;
pub mod clock;
pub mod codebook;
pub mod event;
pub mod guard;
pub mod hex;
pub mod interleave;
pub mod limits;
pub mod location;
pub mod memory;
pub mod outcome;
pub mod part_encoding;
pub mod plan;
pub mod reading;
pub mod row;
pub mod row_id;
pub mod spec;
pub mod template;
pub mod text_hash;
pub mod tokens;

pub use charge::{Charge, ChargeSum};
pub use clock::{Clock, Moment, UnixMillis};
pub use codebook::{Codebook, CodebookError, Label, LabelIndex};
pub use event::{Event, EventSink};
pub use interleave::Interleaved;
pub use location::{Location, LocationError, ObjectUrl, Service};
pub use outcome::{Attempts, Outcome, Reason};
pub use part_encoding::{Compression, PartEncoding};
pub use plan::{PartNumber, Plan, Stretch};
pub use reading::Reading;
pub use row::{Position, PositionRange, Row};
pub use row_id::RowId;
pub use spec::JobSpec;
pub use template::{Template, TemplateError};
pub use text_hash::TextHash;
pub use tokens::{Tokens, Usage};
