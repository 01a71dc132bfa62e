//! Classifies the rows of a Parquet, CSV or NDJSON input with a language model, under a
//! tokens-per-minute limit, into numbered Parquet parts.
//!
//! The modules in reading order are the way of a row:
//!
//! 1. [`domain`]: the words that all stages share. No I/O, no async.
//! 2. [`input`]: rows in id order, less what is done.
//! 3. [`llm`]: packing, pacing, asking and matching replies to rows by key.
//! 4. [`output`]: journal, parts and manifest; the only code that makes a file visible.
//! 5. [`cloud`]: buckets of object storage, for both ends.
//! 6. [`pipeline`]: the run, on one page; the only module that knows every stage.
//! 7. [`simulate`]: an OpenAI-compatible loopback server to rehearse a job against.
//! 8. [`summary`]: counts and accuracy over finished parts.
//! 9. [`verify`]: the proof that an output is what it promises to be.
//! 10. [`check`]: what storage can promise, before a token is spent.
//! 11. [`compact`]: small parts rewritten into full ones.
//! 12. [`plot`]: pictures of a run, from its events.
//! 13. [`cli`]: what was typed, the environment, progress and exit codes.
//! 12. [`quality`]: what labels are worth: accuracy, paired comparisons. Pure.
//! 13. [`eval`]: a job on rows with known labels.
//! 14. [`calibrate`]: the same rows at several numbers of rows a call.
//! 15. [`cli`]: what was typed, the environment, progress and exit codes.

pub mod calibrate;
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cloud;
pub mod compact;
pub mod domain;
pub mod eval;
pub mod input;
pub mod llm;
pub mod output;
pub mod pipeline;
#[cfg(feature = "cli")]
pub mod plot;
pub mod quality;
#[cfg(feature = "simulate")]
pub mod simulate;
#[cfg(feature = "polars")]
pub mod summary;
pub mod verify;
