//! The corpus as the table of `README.md`.
