//! Stdout: a thread of its own writes what the attempts report, so that a slow reader delays no request.
//!
//! In: finished attempts, in the order of their completion. Out: lines or charts, each in one write. A reader that goes
//! away (`| head`) ends the output quietly and stops the run; any other failure to write is one. It moves the progress
//! bar too, and takes it out of the way of what it writes.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
};

use http::HeaderMap;
use httptrace::{Timeline, timeline::Tag};
use tokio::sync::Notify;

use crate::{
    args::Format,
    calls::{self, Calls},
    charts::Charts,
    exit::{Failure, WRITE},
    har::Archive,
    json,
    plan::Plan,
    progress::Progress,
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
    progress: bool,
}

enum Message {
    Attempt(Box<Timeline>),
    /// The hooks of an attempt of the request with this number.
    Calls(u64, Calls),
    /// The header of the response to the request with this number.
    Header(u64, HeaderMap),
    /// A request has ended, for the progress bar.
    Ended(Option<Failure>),
    End,
}

/// Gives attempts to the writing thread.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    sender: Sender<Message>,
    progress: bool,
}

impl Reports {
    pub(crate) fn attempt(&self, timeline: &Timeline) {
        // The thread is gone only when the run is over.
        let _ = self.sender.send(Message::Attempt(Box::new(timeline.clone())));
    }

    pub(crate) fn calls(&self, request: u64, calls: Calls) {
        let _ = self.sender.send(Message::Calls(request, calls));
    }

    pub(crate) fn header(&self, request: u64, header: &HeaderMap) {
        let _ = self.sender.send(Message::Header(request, header.clone()));
    }

    /// A request has ended. Returns whether its failure, if it has one, gets its line from here.
    pub(crate) fn ended(&self, failure: Option<&Failure>) -> bool {
        self.progress && self.sender.send(Message::Ended(failure.cloned())).is_ok()
    }
}

impl Output {
    pub(crate) fn start(plan: &Plan) -> Self {
        let (sender, receiver) = mpsc::channel();
        let closed = Arc::new(Notify::new());
        let notify = Arc::clone(&closed);
        let progress = Progress::new(plan);
        let shown = progress.is_some();
        let inbox = Inbox { receiver, progress, shared: io::stdout().is_terminal() };
        let (format, requests) = (plan.format, plan.requests());
        let thread = std::thread::spawn(move || {
            // Here, since a terminal that is held up (Ctrl-S) holds up who writes to it.
            inbox.progress.iter().for_each(Progress::start);
            let written = write_all(format, requests, inbox);
            if written.is_err() {
                notify.notify_one();
            }
            written
        });
        Self { sender, thread, closed, progress: shown }
    }

    pub(crate) fn reports(&self) -> Reports {
        Reports { sender: self.sender.clone(), progress: self.progress }
    }

    /// Resolves when nothing can be written any more.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Ends a run that never began.
    pub(crate) fn cancel(self) {
        drop(self.sender);
        let _ = self.thread.join();
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

/// What the writing thread hears, and its terminal.
struct Inbox {
    receiver: Receiver<Message>,
    progress: Option<Progress>,
    /// Stdout is a terminal: where there is a bar, it is the same one.
    shared: bool,
}

impl Inbox {
    /// The next message that is about attempts.
    fn next(&mut self) -> Option<Message> {
        loop {
            match (self.receiver.recv().ok()?, &mut self.progress) {
                (Message::Ended(failure), Some(progress)) => progress.ended(failure.as_ref()),
                (Message::Ended(_), None) => {}
                (message, _) => return Some(message),
            }
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match &self.progress {
            Some(progress) if self.shared => progress.aside(|| write(text)),
            _ => write(text),
        }
    }

    /// What is written at the end of everything.
    fn finish(mut self, text: &str) -> io::Result<()> {
        self.progress = None;
        write(text)
    }
}

fn write_all(format: Format, requests: u64, mut inbox: Inbox) -> io::Result<()> {
    match format {
        Format::Json => each_attempt(&mut inbox, |inbox, timeline| inbox.write(&json::line(&timeline))),
        Format::Waterfall => {
            let mut charts = Charts::new(requests);
            each_attempt(&mut inbox, |inbox, timeline| match charts.attempt(timeline) {
                Some(chart) => inbox.write(&chart),
                None => Ok(()),
            })?;
            inbox.finish(&charts.end())
        }
        Format::Hooks => {
            let mut gap = "";
            each_pair(
                &mut inbox,
                |_, _| {},
                |inbox, timeline, calls| {
                    inbox.write(&format!("{}{}", std::mem::replace(&mut gap, "\n"), calls::render(&timeline, &calls)))
                },
            )?;
            Ok(())
        }
        Format::Har => write_archive(inbox),
    }
}

/// One document, when everything is over.
fn write_archive(mut inbox: Inbox) -> io::Result<()> {
    let mut attempts = Vec::new();
    let mut headers = HashMap::new();
    let ended = each_pair(
        &mut inbox,
        |request, header| drop(headers.insert(request, header)),
        |_, timeline, calls| {
            attempts.push((timeline, calls));
            Ok(())
        },
    )?;
    // A run that never began has no document.
    if ended { inbox.finish(&Archive::new(&attempts, &headers).render()) } else { Ok(()) }
}

fn each_attempt(inbox: &mut Inbox, mut show: impl FnMut(&Inbox, Box<Timeline>) -> io::Result<()>) -> io::Result<()> {
    loop {
        match inbox.next() {
            Some(Message::Attempt(timeline)) => show(inbox, timeline)?,
            Some(Message::Calls(..) | Message::Header(..) | Message::Ended(_)) => {}
            Some(Message::End) | None => return Ok(()),
        }
    }
}

/// Brings the record of an attempt and its hooks together. Returns whether the run came to its end.
fn each_pair(
    inbox: &mut Inbox,
    mut header: impl FnMut(u64, HeaderMap),
    mut show: impl FnMut(&Inbox, Box<Timeline>, Calls) -> io::Result<()>,
) -> io::Result<bool> {
    // The record is told before the hook that ends the attempt for a user's trace, unless it is that of a redirect.
    let mut waiting = HashMap::new();
    let mut early = HashMap::new();
    loop {
        match inbox.next() {
            Some(Message::Attempt(timeline)) => {
                let request = timeline.request.tag.map_or(0, |Tag(number)| number);
                let attempt = (request, timeline.request.attempt);
                match early.remove(&attempt) {
                    Some(calls) => show(inbox, timeline, calls)?,
                    None => drop(waiting.insert(attempt, timeline)),
                }
            }
            Some(Message::Calls(request, calls)) => {
                let attempt = (request, calls.attempt);
                match waiting.remove(&attempt) {
                    Some(timeline) => show(inbox, timeline, calls)?,
                    None => drop(early.insert(attempt, calls)),
                }
            }
            Some(Message::Header(request, values)) => header(request, values),
            Some(Message::Ended(_)) => {}
            Some(Message::End) => return Ok(true),
            None => return Ok(false),
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    // The text ends with a newline, so `Stdout`'s line buffer passes it on in one write.
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
