//! What labels are worth: counted, with the uncertainty that a sample leaves. Pure.
//!
//! 1. `interval`: where a share lies, by the normal distribution's points.
//! 2. `confusion`: labels held against known answers.
//! 3. `paired`: two sets of answers to the same rows.
//! 4. `packing`: how many rows a call may carry, by evidence.
//! 5. `fifths`: accuracy by a row's place in its call.

mod confusion;
mod fifths;
mod interval;
mod packing;
mod paired;

pub use confusion::{Confusion, LabelQuality, MixUp};
pub use fifths::{Fifth, Fifths};
pub use interval::{Confidence, Interval, wilson};
pub use packing::{Bound, Choice, Stop, Tested, choose};
pub use paired::Paired;
