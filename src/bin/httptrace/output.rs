//! Stdout: a thread of its own writes what the attempts report, so that a slow reader delays no request.
//!
//! In: finished attempts, in the order of their completion. Out: lines or charts, each in one write. A reader that goes
//! away (`| head`) ends the output quietly and stops the run; any other failure to write is one.

use std::{
    collections::HashMap,
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
};

use http::HeaderMap;
use httptrace::{
    Timeline,
    timeline::Tag,
    views::waterfall::{Style, Summary, Waterfall},
};
use tokio::sync::Notify;

use crate::{
    args::Format,
    calls::{self, Calls},
    exit::{Failure, WRITE},
    har::Archive,
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
    /// The hooks of an attempt of the request with this number.
    Calls(u64, Calls),
    /// The header of the response to the request with this number.
    Header(u64, HeaderMap),
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

    pub(crate) fn calls(&self, request: u64, calls: Calls) {
        let _ = self.0.send(Message::Calls(request, calls));
    }

    pub(crate) fn header(&self, request: u64, header: &HeaderMap) {
        let _ = self.0.send(Message::Header(request, header.clone()));
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
    match format {
        Format::Json => each_attempt(receiver, |timeline| write(&json::line(&timeline))),
        Format::Waterfall => write_charts(receiver),
        Format::Hooks => {
            let mut gap = "";
            each_pair(
                receiver,
                |_, _| {},
                |timeline, calls| {
                    write(&format!("{}{}", std::mem::replace(&mut gap, "\n"), calls::render(&timeline, &calls)))
                },
            )?;
            Ok(())
        }
        Format::Har => write_archive(receiver),
    }
}

fn write_charts(receiver: &Receiver<Message>) -> io::Result<()> {
    let style = style();
    let mut summary = Summary::default();
    each_attempt(receiver, |timeline| {
        let gap = if summary.attempts() > 0 { "\n" } else { "" };
        summary.add(&timeline);
        write(&format!("{gap}{}", Waterfall::from_timeline(&timeline).render(&style)))
    })?;
    if summary.attempts() > 1 {
        write(&format!("\n{}", summary.render(&style)))?;
    }
    Ok(())
}

/// One document, when everything is over.
fn write_archive(receiver: &Receiver<Message>) -> io::Result<()> {
    let mut attempts = Vec::new();
    let mut headers = HashMap::new();
    let ended = each_pair(
        receiver,
        |request, header| drop(headers.insert(request, header)),
        |timeline, calls| {
            attempts.push((timeline, calls));
            Ok(())
        },
    )?;
    // A run that never began has no document.
    if ended { write(&Archive::new(&attempts, &headers).render()) } else { Ok(()) }
}

fn each_attempt(receiver: &Receiver<Message>, mut show: impl FnMut(Box<Timeline>) -> io::Result<()>) -> io::Result<()> {
    loop {
        match receiver.recv() {
            Ok(Message::Attempt(timeline)) => show(timeline)?,
            Ok(Message::Calls(..) | Message::Header(..)) => {}
            Ok(Message::End) | Err(_) => return Ok(()),
        }
    }
}

/// Brings the record of an attempt and its hooks together. Returns whether the run came to its end.
fn each_pair(
    receiver: &Receiver<Message>,
    mut header: impl FnMut(u64, HeaderMap),
    mut show: impl FnMut(Box<Timeline>, Calls) -> io::Result<()>,
) -> io::Result<bool> {
    // The record is told before the hook that ends the attempt for a user's trace.
    let mut waiting = HashMap::new();
    loop {
        match receiver.recv() {
            Ok(Message::Attempt(timeline)) => {
                let request = timeline.request.tag.map_or(0, |Tag(number)| number);
                waiting.insert((request, timeline.request.attempt), timeline);
            }
            Ok(Message::Calls(request, calls)) => {
                if let Some(timeline) = waiting.remove(&(request, calls.attempt)) {
                    show(timeline, calls)?;
                }
            }
            Ok(Message::Header(request, values)) => header(request, values),
            Ok(Message::End) => return Ok(true),
            Err(_) => return Ok(false),
        }
    }
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
