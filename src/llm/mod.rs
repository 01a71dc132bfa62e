//! Packing, pacing, asking and matching: rows to labels by key.

pub mod dialect;
pub mod output_budget;
pub mod price;
pub mod provider;
