//! Counts and accuracy over finished parts.
