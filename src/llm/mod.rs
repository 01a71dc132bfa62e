//! Packing, pacing, asking and matching: rows to labels by key.

pub mod provider;
