//! Packing, pacing, asking and matching: rows to labels by key.

pub mod answer_writer;
pub mod asker;
pub mod batcher;
pub mod budget;
pub mod codes;
pub mod dedupe;
pub mod dialect;
mod feature_table;
pub mod fitted_prompt;
pub mod fitted_scorer;
pub mod governor;
pub mod keys;
pub mod learned_scorer;
pub mod lexical_scorer;
pub mod one_line;
pub mod output_budget;
pub mod price;
pub mod prompt;
pub mod prompt_ceiling;
pub mod prompt_reader;
pub mod provider;
pub mod reply_matcher;
pub mod reply_reader;
pub mod schema;
pub mod suspicion;
pub mod token_counter;
mod words;
