//! Exit codes beside real curl's.
