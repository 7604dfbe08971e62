//! The judge: a record beside the stamps of the other process.
//!
//! *Errors* are mark minus truth. The truth of what the client reads is the moment right before it was written, of what it
//! writes the moment right after it was read: the first is never too late, the second never too early, so a response's
//! error is positive by the way through two kernels' queues and a wake-up, a request's error is negative by a wake-up of
//! the other process. *Lies* are marks that can't be: they are counted whatever their size.

use std::{collections::BTreeMap, fmt, time::Instant};

use httptrace::{
    Timeline,
    timeline::{EventKind, SetupDetail},
};

use crate::{
    order::{Kind, Order, Protocol, Stamps},
    wire::Nanos,
};

/// What was found out in one round.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    errors: BTreeMap<Boundary, Vec<i64>>,
    /// What the origin's sleeps were too long by.
    late: Vec<i64>,
    /// Marks whose byte was proven to be held up, and all that should be.
    held_up: [usize; 2],
    pub(crate) lies: Vec<String>,
}

/// Rows of the table, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Boundary {
    ConnectStart,
    ConnectDone,
    TlsStart,
    TlsDone,
    WroteHeaders,
    WroteBigHead,
    WroteRequest,
    WroteUpload,
    FirstByte,
    FinalFirstByte,
    ResponseEnd,
    IdleReturn,
}

impl Findings {
    pub(crate) fn judge(&mut self, order: Order, timeline: &Timeline, stamps: &Stamps) {
        let mut case = Case { order, timeline, stamps, findings: self };
        case.order_of_marks();
        case.set_up();
        if order.kind != Kind::SynDropped {
            case.request();
            case.response();
            self.late.push(i64::try_from(stamps.get("late")).unwrap());
        }
    }

    /// The boundaries whose p95 is too large.
    pub(crate) fn too_far(&self) -> BTreeMap<Boundary, String> {
        let [full, all] = self.held_up;
        assert!(4 * full > all, "the socket was full at {full} of {all} marks: they don't test what they should");
        let limit = LIMIT + quantile(&self.late, 95);
        let far = |(boundary, errors): (&Boundary, &Vec<i64>)| {
            let p95 = quantile(&errors.iter().map(|error| error.abs()).collect::<Vec<_>>(), 95);
            (p95 > limit).then(|| (*boundary, format!("p95 is {} µs, allowed are {}", p95 / 1000, limit / 1000)))
        };
        self.errors.iter().filter_map(far).collect()
    }
}

/// p95 of the distance between mark and truth.
const LIMIT: i64 = 2_000_000;

/// One request.
struct Case<'a> {
    order: Order,
    timeline: &'a Timeline,
    stamps: &'a Stamps,
    findings: &'a mut Findings,
}

impl Case<'_> {
    fn wall(&self, at: Instant) -> Nanos {
        self.timeline.anchor.unix_nanos(at)
    }

    fn lie(&mut self, what: &str) {
        let lie = format!("{}: {what}\n  {}\n  {:?}", self.order, self.stamps, self.timeline);
        self.findings.lies.push(lie);
    }

    /// The mark is there; how far it is from the truth.
    fn error(&mut self, boundary: Boundary, mark: Option<Instant>, truth: &str) {
        let Some(mark) = mark else { return self.lie(&format!("{boundary} is missing")) };
        let error = self.wall(mark) as i64 - self.stamps.get(truth) as i64;
        self.findings.errors.entry(boundary).or_default().push(error);
    }

    /// The mark can't be before this.
    fn not_before(&mut self, what: &str, mark: Option<Instant>, stamp: &str) {
        if let (Some(mark), Some(stamp_at)) = (mark.map(|at| self.wall(at)), self.stamps.find(stamp))
            && mark < stamp_at
        {
            self.lie(&format!("{what} {} µs before {stamp}", (stamp_at - mark) / 1000));
        }
    }

    /// The mark can't be after this: it is the cause of it.
    fn not_after(&mut self, what: &str, mark: Option<Instant>, stamp: &str) {
        if let (Some(mark), Some(stamp_at)) = (mark.map(|at| self.wall(at)), self.stamps.find(stamp))
            && mark > stamp_at
        {
            self.lie(&format!("{what} {} µs after {stamp}", (mark - stamp_at) / 1000));
        }
    }

    /// As in a packet capture: what follows can't be before what it follows from.
    fn order_of_marks(&mut self) {
        let t = self.timeline;
        let (connect, tls) = (self.step(is_connect), self.step(is_tls));
        let returned = self.returned();
        let marks = [
            ("start", Some(t.start)),
            ("get-connection starts", t.wait.as_ref().map(|wait| wait.start)),
            ("connect starts", connect.map(|(start, _)| start)),
            ("connect is done", connect.and_then(|(_, end)| end)),
            ("tls starts", tls.map(|(start, _)| start)),
            ("tls is done", tls.and_then(|(_, end)| end)),
            ("get-connection ends", t.wait.as_ref().and_then(|wait| wait.end)),
            ("request-write starts", t.write_start),
            ("wrote-headers", t.wrote_headers),
            ("wrote-request", t.wrote_request),
            ("first-byte", t.first_byte),
            ("final first byte", t.final_first_byte),
            ("response ends", t.response_end),
            ("idle-return", returned),
            ("end", t.end),
        ];
        let there: Vec<_> = marks.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
        for pair in there.windows(2) {
            if pair[1].1 < pair[0].1 {
                self.lie(&format!("{} before {}", pair[1].0, pair[0].0));
            }
        }
    }

    fn step(&self, of: fn(&SetupDetail) -> bool) -> Option<(Instant, Option<Instant>)> {
        self.timeline.setup.iter().find(|step| of(&step.detail)).map(|step| (step.start, step.end))
    }

    fn returned(&self) -> Option<Instant> {
        let mut events = self.timeline.events.iter();
        events.find(|event| matches!(event.kind, EventKind::IdleReturn(_))).map(|event| event.at)
    }

    fn set_up(&mut self) {
        let (connect, tls) = (self.step(is_connect), self.step(is_tls));
        let is_new = self.order.kind != Kind::Again;
        let is_tls = is_new && self.order.protocol != Protocol::Http1;
        if (connect.is_some(), tls.is_some()) != (is_new, is_tls) {
            self.lie("a new connection has its steps, a used one none");
        }
        if let Some((start, end)) = connect {
            self.error(Boundary::ConnectStart, Some(start), "accepted");
            self.not_after("connect starts", Some(start), "accepted");
            self.error(Boundary::ConnectDone, end, "accepted");
            // Only there if the kernel dropped the first SYN.
            self.not_before("connect is done", end, "room_made");
            self.not_after("connect is done", end, "hello_read");
            self.not_after("connect is done", end, "head_read");
        }
        if let Some((start, end)) = tls {
            self.error(Boundary::TlsStart, Some(start), "hello_read");
            self.not_after("tls starts", Some(start), "hello_read");
            self.error(Boundary::TlsDone, end, "finished_read");
            self.not_before("tls is done", end, "flight_written");
            self.not_after("tls is done", end, "head_read");
        }
    }

    fn request(&mut self) {
        let t = self.timeline;
        self.not_after("request-write starts", t.write_start, "head_read");
        match self.order.kind {
            Kind::Upload => {
                self.error(Boundary::WroteHeaders, t.wrote_headers, "head_read");
                self.held_up(Boundary::WroteUpload, t.wrote_request, "request_read");
            }
            Kind::BigHead => {
                self.held_up(Boundary::WroteBigHead, t.wrote_headers, "head_read");
                self.held_up(Boundary::WroteUpload, t.wrote_request, "request_read");
            }
            Kind::Get | Kind::Again | Kind::SynDropped => {
                self.error(Boundary::WroteHeaders, t.wrote_headers, "head_read");
                self.error(Boundary::WroteRequest, t.wrote_request, "request_read");
            }
        }
    }

    /// The last byte of something larger than the socket: accepted after the socket was seen to be full and before that
    /// byte was read. Inside of that the error is 0, since nobody outside of the client can tell more.
    fn held_up(&mut self, boundary: Boundary, mark: Option<Instant>, read: &str) {
        self.findings.held_up[1] += 1;
        let Some(full_at) = self.stamps.find("full_at") else { return };
        self.findings.held_up[0] += 1;
        let is_inside = mark.is_some_and(|at| (full_at..=self.stamps.get(read)).contains(&self.wall(at)));
        self.not_before(&boundary.to_string(), mark, "full_at");
        if is_inside {
            self.findings.errors.entry(boundary).or_default().push(0);
        } else {
            self.error(boundary, mark, read);
        }
    }

    fn response(&mut self) {
        let t = self.timeline;
        for (boundary, mark, stamp) in [
            (Boundary::FirstByte, t.first_byte, "first_written"),
            (Boundary::FinalFirstByte, t.final_first_byte, "final_first_written"),
            (Boundary::ResponseEnd, t.response_end, "last_written"),
            (Boundary::IdleReturn, self.returned(), "last_written"),
        ] {
            self.error(boundary, mark, stamp);
            self.not_before(&boundary.to_string(), mark, stamp);
        }
    }
}

fn is_connect(detail: &SetupDetail) -> bool {
    matches!(detail, SetupDetail::Connect { .. })
}

fn is_tls(detail: &SetupDetail) -> bool {
    matches!(detail, SetupDetail::Tls { .. })
}

/// The smallest value that this many percent don't exceed.
fn quantile(values: &[i64], percent: usize) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

/// What is printed.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<String>);

impl Table {
    pub(crate) fn add(&mut self, protocol: Protocol, round: u32, findings: &Findings) {
        let [full, all] = findings.held_up;
        let (name, late) = (protocol.name(), quantile(&findings.late, 95) / 1000);
        self.0.push(format!(
            "{name}, round {round}: sleeps late by {late} µs (p95); socket full at {full} of {all} marks"
        ));
        self.0.push(format!("{:<28}{:>8}{:>10}{:>10}{:>10}", "error in µs", "samples", "median", "p95", "max"));
        for (boundary, errors) in &findings.errors {
            let mut by_size = errors.clone();
            by_size.sort_unstable_by_key(|error| error.abs());
            let micros = |percent: usize| by_size[(by_size.len() * percent).div_ceil(100) - 1] as f64 / 1000.0;
            let (samples, median, p95, max) =
                (errors.len(), quantile(errors, 50) as f64 / 1000.0, micros(95), micros(100));
            self.0.push(format!("{:<28}{samples:>8}{median:>10.1}{p95:>10.1}{max:>10.1}", boundary.to_string()));
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nmark minus truth (p95 and max: of the size, with the sign)")?;
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ConnectStart => "connect start",
            Self::ConnectDone => "connect done",
            Self::TlsStart => "tls start",
            Self::TlsDone => "tls done",
            Self::WroteHeaders => "wrote-headers",
            Self::WroteBigHead => "wrote-headers, full socket",
            Self::WroteRequest => "wrote-request",
            Self::WroteUpload => "wrote-request, full socket",
            Self::FirstByte => "first-byte",
            Self::FinalFirstByte => "first byte of the final",
            Self::ResponseEnd => "response end",
            Self::IdleReturn => "idle-return",
        })
    }
}
