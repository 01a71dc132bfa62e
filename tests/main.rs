//! What holds for the crate as a whole: one binary, one module per promise.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, its helpers too; modules share by `pub`"
)]

mod append;
mod attacks;
mod calibrate;
mod check;
mod claims;
mod columns;
mod compact;
mod costs;
mod eval;
mod faults;
mod formats;
mod grown;
mod guarantees;
mod killed;
mod layering;
mod learned;
mod limits;
mod offline;
mod probes;
mod resume;
mod s3;
mod stops;
mod storage_faults;
mod support;
mod types;
mod verify;
