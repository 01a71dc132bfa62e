//! Rows in id order, less what is done.
