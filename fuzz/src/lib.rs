//! A fuzz target in one line. What must hold is in `src/fuzzing` of the library: a target only feeds it.
//!
//! Without `cargo fuzz` a target is a program that runs its check on the files it is given: with a debugger, on a crash.

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// The check of this name, or a function of one's own.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::target!(|data: &[u8]| $crate::check($name, data));
    };
    ($check:expr) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| ($check)(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::files($check)
        }
    };
}

/// Runs a check of the library.
#[cfg(fuzzing)]
pub fn check(name: &str, data: &[u8]) {
    httptrace::fuzzing::check(name, data);
}

/// Only `cargo fuzz` builds the library with its checks.
#[cfg(not(fuzzing))]
pub fn check(name: &str, _: &[u8]) {
    eprintln!("`{name}` is there with `cargo fuzz run {name}` only");
}

/// Runs a check on the files of the command line.
///
/// # Errors
///
/// A file can't be read.
#[cfg(not(fuzzing))]
pub fn files(check: impl Fn(&[u8])) -> std::io::Result<()> {
    std::env::args_os().skip(1).try_for_each(|path| std::fs::read(path).map(|data| check(&data)))
}
