//! The progress bar of a run of several requests: on stderr, while that is a terminal, and gone without a trace.
//!
//! In: how requests ended, told by the writing thread, so that a slow terminal delays no request. Out: one line that is
//! redrawn, and the lines of failures above it: each once, since hundreds of the same would push everything else off the
//! screen; how many more there were is said at the end. Where there is no bar, nothing here is called.

use std::{
    collections::HashSet,
    fmt::Write,
    io::{self, IsTerminal},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::{
    args::Format,
    exit::{Failure, warn},
    plan::Plan,
    telemetry,
};

/// A bar, and the failures above it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    failed: u64,
    told: HashSet<String>,
    untold: u64,
}

/// The most different failures that are told above it.
const MAX_TOLD: usize = 16;
/// How often it is redrawn though nothing happens, for its clock.
const TICK: Duration = Duration::from_millis(250);
/// Narrower than this there are only numbers.
const BAR_WIDTH: u16 = 40;

impl Progress {
    /// A bar that is not yet shown, if there is a terminal for it and nothing else is written there all the time.
    pub(crate) fn new(plan: &Plan) -> Option<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let flows = matches!(plan.format, Format::Json | Format::Hooks) && io::stdout().is_terminal();
        if plan.silent || plan.verbose || plan.requests() < 2 || flows || telemetry::on_stderr(env) {
            return None;
        }
        let target = ProgressDrawTarget::stderr();
        // Not a terminal, or one that can't take a line back (TERM=dumb, or none).
        if target.is_hidden() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(Some(plan.requests()), target);
        bar.set_style(style());
        Some(Self { bar, failed: 0, told: HashSet::new(), untold: 0 })
    }

    /// Shows it.
    pub(crate) fn start(&self) {
        self.bar.tick();
        self.bar.enable_steady_tick(TICK);
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, failure: Option<&Failure>) {
        if let Some(failure) = failure {
            self.failed += 1;
            self.bar.set_message(format!(" {} failed", self.failed));
            if self.told.len() < MAX_TOLD && self.told.insert(format!("{} {}", failure.code, failure.message)) {
                self.bar.suspend(|| failure.tell());
            } else {
                self.untold += 1;
            }
        }
        self.bar.inc(1);
    }

    /// Writes to the terminal while the bar is out of the way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.untold > 0 {
            let failures = if self.untold == 1 { "failure" } else { "failures" };
            warn(&format!("{} more {failures} like these", self.untold));
        }
    }
}

fn style() -> ProgressStyle {
    let width = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0);
    let template = match width {
        ..BAR_WIDTH => "{pos}/{len}{msg}",
        _ if AutoStream::choice(&io::stderr()) == ColorChoice::Never => "{pos}/{len} {wide_bar}{msg}{left}",
        _ => "{pos}/{len} {wide_bar:.cyan}{msg}{left}",
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well-formed");
    style.progress_chars("█▉▊▋▌▍▎▏ ").with_key("left", |state: &ProgressState, out: &mut dyn Write| {
        // Before anything has ended there is nothing to guess from.
        if state.pos() > 0 {
            // A line that can't be written is drawn again soon.
            let _ = write!(out, " {:#} left", HumanDuration(state.eta()));
        }
    })
}
