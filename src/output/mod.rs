//! Journal, parts and manifest: the only code that makes a file visible.
