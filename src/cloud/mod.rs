//! Buckets of object storage, asked by threads that wait for the answer.
//!
//! A request fails within seconds and says whose move it is; it is tried three times at most, since
//! whoever waits has a patience and a display of its own. No key, token or signed address is in any
//! message.

mod bucket;
mod connection;
mod credentials;
mod error;
#[cfg(test)]
#[path = "../../tests/support/moto.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the whole program")]
pub(crate) mod moto;
mod profile;
mod runtime;
#[cfg(test)]
pub(crate) mod scripted_server;
mod wire;

pub use bucket::{Bucket, Listing, Object};
pub use error::CloudError;
