//! The command's URLs: its own files, since a program can't be linked.
#![cfg_attr(fuzzing, no_main)]
#![allow(dead_code, reason = "the check needs a part of them")]

#[path = "../../src/bin/httptrace/exit.rs"]
mod exit;
#[path = "../../src/bin/httptrace/fuzzing.rs"]
mod fuzzing;
#[path = "../../src/bin/httptrace/url.rs"]
mod url;
#[path = "../../src/views/waterfall/visible.rs"]
mod visible;

httptrace_fuzz::target!(fuzzing::url);
