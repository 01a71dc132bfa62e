//! An OpenAI-compatible loopback server to rehearse a job against.
