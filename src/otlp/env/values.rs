//! How the values of variables are read: trimmed, empty is unset, numbers within sense, words without case.

use std::{fmt, time::Duration};

use super::Lookup;

/// Longer than this no wait makes sense, and arithmetic on the clock might fail: a year.
const LONGEST: u64 = 365 * 24 * 60 * 60 * 1000;
/// More than this no queue makes sense: its places are allocated at once, 350 bytes each.
const MOST: usize = 1 << 20;

/// The environment, and what was wrong with it.
pub(super) struct Env<'a> {
    lookup: Lookup<'a>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Env<'a> {
    pub(super) fn new(lookup: Lookup<'a>) -> Self {
        Self { lookup, warnings: Vec::new() }
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The same problem of the same variable is told once, however many signals read it.
    pub(super) fn warn(&mut self, name: &str, problem: impl fmt::Display) {
        let warning = format!("{name}: {problem}");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        match self.get(name).map(|value| value.to_ascii_lowercase()).as_deref() {
            Some("true") => true,
            Some("false") => false,
            None => default,
            Some(_) => {
                // The specification wants anything else to be false.
                self.warn(name, "is neither true nor false; taken as false");
                false
            }
        }
    }

    /// A time in milliseconds.
    pub(super) fn millis(&mut self, name: &str, default: Duration) -> Duration {
        match self.get(name).map(|value| value.parse::<u64>()) {
            None => default,
            Some(Ok(millis @ 1..=LONGEST)) => Duration::from_millis(millis),
            Some(_) => {
                let default_is = default.as_millis();
                self.warn(name, format_args!("is no sensible number of milliseconds; {default_is} is used"));
                default
            }
        }
    }

    /// A number of places.
    pub(super) fn count(&mut self, name: &str, default: usize) -> usize {
        match self.get(name).map(|value| value.parse::<usize>()) {
            None => default,
            Some(Ok(count @ 1..=MOST)) => count,
            Some(_) => {
                self.warn(name, format_args!("is no number from 1 to {MOST}; {default} is used"));
                default
            }
        }
    }

    /// A limit, which may be 0.
    pub(super) fn limit(&mut self, name: &str, default: u32) -> u32 {
        match self.get(name).map(|value| value.parse::<u32>()) {
            None => default,
            Some(Ok(limit)) => limit,
            Some(Err(_)) => {
                self.warn(name, format_args!("is no number; {default} is used"));
                default
            }
        }
    }

    /// One of some words. A value that is none of them is told.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)], default: T) -> T {
        let Some(value) = self.get(name) else { return default };
        if let Some((_, word)) = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&value)) {
            return *word;
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.warn(name, format_args!("`{value}` is not supported ({}); the default is used", known.join(", ")));
        default
    }

    /// A comma-separated list of words, each once. Those that are not known are told, in one warning; `None` if nothing
    /// known is left.
    pub(super) fn words<T: Copy + PartialEq>(&mut self, name: &str, words: &[(&str, T)]) -> Option<Vec<T>> {
        let value = self.get(name)?;
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(part)) {
                Some((_, word)) if !found.contains(word) => found.push(*word),
                Some(_) => {}
                None => unknown.push(part),
            }
        }
        if !unknown.is_empty() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let rest = if found.is_empty() { "the default is used" } else { "the rest is used" };
            self.warn(name, format_args!("`{}` is not supported ({}); {rest}", unknown.join(","), known.join(", ")));
        }
        (!found.is_empty()).then_some(found)
    }
}
