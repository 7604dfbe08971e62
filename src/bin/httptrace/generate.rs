//! `--generate`: the man page and the completions of shells, made of the definitions that the command line is read with, so
//! that they can't say anything else.
//!
//! In: a kind. Out: a text for stdout.

use clap::{Command, ValueEnum};
use clap_complete::{Shell, generate};

/// What can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The man page, in roff
    Man,
    /// Completions for bash
    CompleteBash,
    /// Completions for zsh
    CompleteZsh,
    /// Completions for fish
    CompleteFish,
    /// Completions for PowerShell
    CompletePowershell,
}

/// Makes one.
pub(crate) fn text(kind: Kind, mut command: Command) -> String {
    let mut out = Vec::new();
    let shell = match kind {
        Kind::Man => {
            // Writing to memory does not fail.
            let _ = clap_mangen::Man::new(command).render(&mut out);
            return String::from_utf8_lossy(&out).into_owned();
        }
        Kind::CompleteBash => Shell::Bash,
        Kind::CompleteZsh => Shell::Zsh,
        Kind::CompleteFish => Shell::Fish,
        Kind::CompletePowershell => Shell::PowerShell,
    };
    generate(shell, &mut command, "httptrace", &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
