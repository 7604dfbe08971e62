//! Runtimes that end.
