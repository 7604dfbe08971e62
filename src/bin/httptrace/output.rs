//! Stdout: a thread of its own writes what the attempts report, so that a slow reader delays no request.
//!
//! In: finished attempts, in the order of their completion. Out: lines or charts, each in one write. A reader that goes
//! away (`| head`) ends the output quietly and stops the run; any other failure to write is one.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
};

use httptrace::{
    Timeline,
    views::waterfall::{Style, Summary, Waterfall},
};
use tokio::sync::Notify;

use crate::{
    args::Format,
    exit::{Failure, WRITE},
    json,
};

/// Shows a text and ends: help and version.
pub(crate) fn show(text: &str) -> ExitCode {
    match write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => unwritable(&error).refuse(false),
        _ => ExitCode::SUCCESS,
    }
}

/// The writing thread.
#[derive(Debug)]
pub(crate) struct Output {
    sender: Sender<Message>,
    thread: JoinHandle<io::Result<()>>,
    closed: Arc<Notify>,
}

enum Message {
    Attempt(Box<Timeline>),
    End,
}

/// Gives attempts to the writing thread.
#[derive(Debug, Clone)]
pub(crate) struct Reports(Sender<Message>);

impl Reports {
    pub(crate) fn attempt(&self, timeline: &Timeline) {
        // The thread is gone only when the run is over.
        let _ = self.0.send(Message::Attempt(Box::new(timeline.clone())));
    }
}

impl Output {
    pub(crate) fn start(format: Format) -> Self {
        let (sender, receiver) = mpsc::channel();
        let closed = Arc::new(Notify::new());
        let notify = Arc::clone(&closed);
        let thread = std::thread::spawn(move || {
            let written = write_all(format, &receiver);
            if written.is_err() {
                notify.notify_one();
            }
            written
        });
        Self { sender, thread, closed }
    }

    pub(crate) fn reports(&self) -> Reports {
        Reports(self.sender.clone())
    }

    /// Resolves when nothing can be written any more.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Writes what is left.
    ///
    /// # Errors
    ///
    /// Stdout can't be written, and not because its reader has gone.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let _ = self.sender.send(Message::End);
        match self.thread.join() {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(&error)),
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::new(WRITE, "the report could not be written")),
        }
    }
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::new(WRITE, format!("cannot write to stdout: {error}"))
}

fn write_all(format: Format, receiver: &Receiver<Message>) -> io::Result<()> {
    let style = style();
    let mut summary = Summary::default();
    while let Ok(Message::Attempt(timeline)) = receiver.recv() {
        match format {
            Format::Json => write(&json::line(&timeline))?,
            Format::Waterfall => {
                let gap = if summary.attempts() > 0 { "\n" } else { "" };
                summary.add(&timeline);
                write(&format!("{gap}{}", Waterfall::from_timeline(&timeline).render(&style)))?;
            }
        }
    }
    if summary.attempts() > 1 {
        write(&format!("\n{}", summary.render(&style)))?;
    }
    Ok(())
}

fn write(text: &str) -> io::Result<()> {
    // The text ends with a newline, so `Stdout`'s line buffer passes it on in one write.
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Colours on a terminal that can show them, unless `NO_COLOR` is set; as wide as the terminal, or `COLUMNS`, or 80.
fn style() -> Style {
    let stdout = io::stdout();
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    let columns = || env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0));
    // Wider charts would only draw the eye away from the names.
    let width = width.filter(|width| *width > 0).or_else(columns).unwrap_or(80).min(200);
    Style::plain(width).color(stdout.is_terminal() && !set("NO_COLOR") && !dumb)
}
