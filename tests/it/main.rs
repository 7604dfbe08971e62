//! The integration tests, one binary: the kit that they are written with, and one file per promise.

mod support;
mod support_selftest;
