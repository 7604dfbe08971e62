//! The command, in each of its formats.
