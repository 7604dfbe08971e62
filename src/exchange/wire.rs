//! Who is on a connection: the request under way on HTTP/1, the streams on HTTP/2.
//!
//! In come the dispatches of requests and what the sensor saw pass; out go the marks of the exchange that it belongs to.
//! hyper does not say which stream a request got. It is known all the same: hyper's task is the only one to open streams on
//! a connection, in the order in which it asks the bodies whether they are empty. Should that ever be wrong, the wire shows
//! it ([`Streams::opened`], [`Wire::answered`]): then all detail per stream is given up on that connection.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Instant,
};

use http::StatusCode;

use super::{flow::Flow, frames::Fact, heads::fields_of_block, lateness::Lateness, marks::Exchange};
use crate::connection::{GoAway, Http2Record, Protocol};

/// Shared by a connection's sensor, its bodies and its driver.
pub(crate) struct Wire {
    on_wire: Mutex<OnWire>,
    /// Whether anybody wants the moments of what passes: those of the request under way, on HTTP/1. The frames of HTTP/2
    /// belong to many requests, so theirs are taken from the first one on that is listened to. The socket asks for itself.
    watched: Arc<AtomicBool>,
    /// The peer has ended the connection.
    peer_ended: AtomicBool,
    /// HTTP/1: bytes came that no request asked for.
    surplus: AtomicBool,
    /// hyper has let go of the byte stream.
    released: AtomicBool,
    /// HTTP/2: the peer sent GOAWAY.
    leaving: AtomicBool,
    /// HTTP/2: what the peer says is something else.
    foreign: AtomicBool,
    /// HTTP/2: what was expected of the frames was wrong.
    disagreed: AtomicBool,
    /// How late the task is that reads; absent unless polls are timed.
    lateness: Option<Arc<Lateness>>,
}

/// HTTP/2: the stream of the frame before, which mostly is that of the next one too, so that it need not be looked up.
pub(super) type Known = Option<(u32, Arc<Exchange>)>;

enum OnWire {
    /// The request under way, and the how manyth it is.
    Http1(Option<Arc<Exchange>>, u64),
    Http2(Box<Streams>),
}

/// HTTP/2.
struct Streams {
    /// The number of the next stream.
    next: u32,
    /// The last stream whose HEADERS were seen to go.
    opened: u32,
    /// In the order of their numbers, in which they begin. Looked up with every frame, and mostly the first.
    open: VecDeque<Stream>,
    /// Pings that are not answered yet.
    pings: Vec<([u8; 8], Instant)>,
    flow: Flow,
    record: Http2Record,
    /// Whom to wake when the peer says how many requests it takes: hyper reads in a task of its own.
    driver: Option<Waker>,
}

struct Stream {
    id: u32,
    exchange: Arc<Exchange>,
    /// The request has no body, so its HEADERS end it.
    ends: bool,
}

impl Wire {
    /// `told`: somebody hears of the connection's end, and of its pings with it.
    pub(super) fn new(protocol: Protocol, told: bool, lateness: Option<Arc<Lateness>>) -> Self {
        let on_wire = match protocol {
            Protocol::Http1 => OnWire::Http1(None, 0),
            Protocol::Http2 => OnWire::Http2(Box::new(Streams {
                next: 1,
                opened: 0,
                open: VecDeque::new(),
                pings: Vec::new(),
                flow: Flow::default(),
                record: Http2Record::default(),
                driver: None,
            })),
        };
        let no = || AtomicBool::new(false);
        let watched = Arc::new(AtomicBool::new(told && protocol == Protocol::Http2));
        let on_wire = Mutex::new(on_wire);
        Self {
            on_wire,
            watched,
            peer_ended: no(),
            surplus: no(),
            released: no(),
            leaving: no(),
            foreign: no(),
            disagreed: no(),
            lateness,
        }
    }

    pub(super) fn lateness(&self) -> Option<&Arc<Lateness>> {
        self.lateness.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, OnWire> {
        self.on_wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn http2<T>(&self, read: impl FnOnce(&mut Streams) -> T) -> Option<T> {
        match &mut *self.lock() {
            OnWire::Http1(..) => None,
            OnWire::Http2(streams) => Some(read(streams)),
        }
    }

    /// hyper begins to write this request. `ends`: its head is all of it.
    pub(super) fn dispatch(&self, exchange: &Arc<Exchange>, ends: bool) {
        match &mut *self.lock() {
            OnWire::Http1(current, nth) => {
                *nth += 1;
                exchange.dispatched(None);
                self.watched.store(exchange.is_watched(), Ordering::Relaxed);
                *current = Some(Arc::clone(exchange));
            }
            OnWire::Http2(streams) if streams.record.disagreed => {
                exchange.dispatched(None);
                exchange.lose_detail();
            }
            OnWire::Http2(streams) => {
                let id = streams.next;
                streams.next += 2;
                exchange.dispatched(Some(id));
                if exchange.is_watched() {
                    self.watched.store(true, Ordering::Relaxed);
                }
                streams.open.push_back(Stream { id, exchange: Arc::clone(exchange), ends });
            }
        }
    }

    /// HTTP/1: what comes now is not for this request any more.
    pub(super) fn leave(&self, exchange: &Arc<Exchange>) {
        if let OnWire::Http1(current, _) = &mut *self.lock()
            && current.as_ref().is_some_and(|current| Arc::ptr_eq(current, exchange))
        {
            *current = None;
            self.watched.store(false, Ordering::Relaxed);
        }
    }

    /// HTTP/2: hyper refused to send this request, though it got a stream.
    pub(super) fn refused(&self, exchange: &Exchange) {
        if let Some(id) = exchange.marks().stream_id {
            self.http2(|streams| streams.forget(id));
            exchange.reset();
        }
    }

    /// HTTP/2: hyper gave this response to this request. Whether it came on the stream that we thought.
    pub(super) fn answered(&self, exchange: &Exchange, status: StatusCode) {
        let marks = exchange.marks();
        if marks.stream_id.is_some() && marks.status != Some(status.as_u16()) {
            self.disagree();
        }
    }

    /// HTTP/2: so much of a body was handed over to hyper.
    pub(super) fn given(&self, exchange: &Exchange, bytes: usize) {
        if let (Some(id), Some(at)) = (exchange.marks().stream_id, exchange.hooks.now()) {
            self.http2(|streams| streams.flow.given(id, bytes, at));
        }
    }

    /// The last stream that the peer will handle, if it sent GOAWAY.
    pub(super) fn goaway(&self) -> Option<u32> {
        self.http2(|streams| streams.record.goaway.as_ref().map(|goaway| goaway.last_stream)).flatten()
    }

    /// Whether the peer sent GOAWAY.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether the peer was asked for HTTP/2 and speaks something else.
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign.load(Ordering::Acquire)
    }

    /// Whether the peer ended the connection since it wants HTTP/1.1 (RFC 9113 §7).
    pub(super) fn wants_http1(&self) -> bool {
        let code = u32::from(h2::Reason::HTTP_1_1_REQUIRED);
        let wants = |goaway: &GoAway| goaway.error_code == code;
        self.http2(|streams| streams.record.goaway.as_ref().is_some_and(wants)).unwrap_or_default()
    }

    /// The driver is to hear of GOAWAY, of settings, and of the end of the byte stream.
    pub(super) fn watch(&self, driver: &Waker) {
        self.http2(|streams| match &mut streams.driver {
            Some(known) => known.clone_from(driver),
            none => *none = Some(driver.clone()),
        });
    }

    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Release);
        self.wake_driver();
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    fn wake_driver(&self) {
        if let Some(driver) = self.http2(|streams| streams.driver.clone()).flatten() {
            driver.wake();
        }
    }

    /// What passed beside requests; `None` on HTTP/1.
    pub(super) fn record(&self) -> Option<Http2Record> {
        self.http2(|streams| streams.record.clone())
    }

    /// The peer ended the connection, in whatever way.
    pub(super) fn peer_ended(&self) {
        self.peer_ended.store(true, Ordering::Relaxed);
        if let Some(exchange) = self.current() {
            exchange.ended();
        }
    }

    /// HTTP/1: bytes came while no request was under way.
    pub(super) fn surplus(&self) {
        self.surplus.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_surplus(&self) -> bool {
        self.surplus.load(Ordering::Relaxed)
    }

    pub(super) fn is_ended_by_peer(&self) -> bool {
        self.peer_ended.load(Ordering::Relaxed)
    }

    /// The connection is gone.
    pub(super) fn gone(&self) {
        let exchanges: Vec<_> = match &mut *self.lock() {
            OnWire::Http1(current, _) => current.take().into_iter().collect(),
            OnWire::Http2(streams) => streams.open.drain(..).map(|stream| stream.exchange).collect(),
        };
        for exchange in exchanges {
            exchange.connection_gone();
        }
    }

    /// HTTP/1: whether a request is under way whose end is still to be told.
    pub(super) fn is_in_use(&self) -> bool {
        self.current().is_some_and(|exchange| !exchange.is_consumed())
    }

    /// Whether the moments of what passes now are wanted.
    pub(super) fn watched(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.watched)
    }

    /// HTTP/1: the request under way.
    pub(super) fn current(&self) -> Option<Arc<Exchange>> {
        self.current_and_number().map(|(exchange, _)| exchange)
    }

    /// The same, and the how manyth of its connection it is.
    pub(super) fn current_and_number(&self) -> Option<(Arc<Exchange>, u64)> {
        match &*self.lock() {
            OnWire::Http1(current, nth) => current.clone().map(|exchange| (exchange, *nth)),
            OnWire::Http2(_) => None,
        }
    }

    /// HTTP/2: streams that are known or accounted for, and pings that wait.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> (usize, usize) {
        self.http2(|streams| (streams.open.len() + streams.flow.streams(), streams.pings.len())).unwrap_or_default()
    }

    /// The exchange of this stream.
    fn stream<'a>(&self, id: u32, known: &'a mut Known) -> Option<&'a Arc<Exchange>> {
        let is_known = known.as_ref().is_some_and(|(known, _)| *known == id) && !self.disagreed.load(Ordering::Relaxed);
        if !is_known {
            let found = self.http2(|streams| streams.get(id).map(|stream| Arc::clone(&stream.exchange))).flatten();
            *known = found.map(|exchange| (id, exchange));
        }
        known.as_ref().map(|(_, exchange)| exchange)
    }

    /// The same with its last frame, and lets go of it: an idle connection holds no exchange.
    fn last(&self, id: u32, known: &mut Known) -> Option<Arc<Exchange>> {
        self.stream(id, known)?;
        known.take().map(|(_, exchange)| exchange)
    }

    fn forget(&self, id: u32) {
        self.http2(|streams| streams.forget(id));
    }

    /// What we know of the streams is wrong: nothing of it is told from now on. Absent, never wrong.
    fn disagree(&self) {
        self.disagreed.store(true, Ordering::Relaxed);
        let lost = self.http2(|streams| {
            streams.record.disagreed = true;
            std::mem::take(&mut streams.open)
        });
        for stream in lost.into_iter().flatten() {
            stream.exchange.lose_detail();
        }
    }

    /// A frame has reached the socket, or has begun to.
    pub(super) fn told_out(&self, fact: Fact, at: Option<Instant>, known: &mut Known) {
        match fact {
            Fact::Head { stream, ends, .. } => {
                if let Some(exchange) = self.opened(stream, ends) {
                    *known = Some((stream, exchange));
                }
                if let Some(exchange) = self.stream(stream, known) {
                    exchange.wrote_headers(at);
                }
                if ends {
                    self.sending_over(stream, at, known);
                }
            }
            Fact::HeadersBegin { stream, ends, .. } => {
                if let Some(exchange) = self.opened(stream, ends) {
                    exchange.touched();
                    *known = Some((stream, exchange));
                }
            }
            Fact::HeadersEnd { stream, .. } => {
                if let Some(exchange) = self.stream(stream, known) {
                    exchange.wrote_headers(at);
                }
            }
            Fact::Piece { stream, ends, length } => {
                self.http2(|streams| streams.flow.sent(stream, length, at));
                if ends {
                    self.sending_over(stream, at, known);
                }
            }
            Fact::Data { stream, length } => {
                self.http2(|streams| streams.flow.sent(stream, length, at));
            }
            Fact::StreamEnd { stream } => self.sending_over(stream, at, known),
            Fact::Reset { stream, code } => {
                self.http2(|streams| streams.record.resets_sent += 1);
                *known = None;
                self.reset(stream, code);
            }
            Fact::Ping { payload, ack: false } => {
                if let Some(at) = at {
                    self.http2(|streams| streams.ping(payload, at));
                }
            }
            Fact::DataBegin { .. }
            | Fact::Ping { .. }
            | Fact::Setting { .. }
            | Fact::GoAway { .. }
            | Fact::WindowUpdate { .. }
            | Fact::Foreign => {}
        }
    }

    /// HEADERS go out: of the request that we know the stream by, or we know nothing.
    fn opened(&self, stream: u32, ends: bool) -> Option<Arc<Exchange>> {
        match self.http2(|streams| streams.opened(stream, ends))? {
            Ok(exchange) => exchange,
            Err(Disagreement) => {
                self.disagree();
                None
            }
        }
    }

    /// The last frame of a request has reached the socket.
    fn sending_over(&self, stream: u32, at: Option<Instant>, known: &mut Known) {
        let Some(exchange) = self.last(stream, known) else { return };
        let marks = exchange.marks();
        if marks.body_bytes.is_some()
            && let Some(Some(blocked)) = self.http2(|streams| streams.flow.ended(stream, at))
        {
            exchange.was_blocked(blocked);
        }
        if marks.response_over {
            self.forget(stream);
        }
        exchange.wrote_request(at);
    }

    /// A frame was readable, or its first byte; `before`: when bytes were readable before these.
    pub(super) fn told_in(&self, fact: Fact, at: Option<Instant>, before: Option<Instant>, known: &mut Known) {
        match fact {
            Fact::Head { stream, ends, length, status } => {
                let Some(exchange) = self.stream(stream, known) else { return };
                exchange.read_head(at);
                exchange.head_length(length);
                self.head(exchange, status, None, at);
                if ends {
                    self.answered_whole(stream, at, known);
                }
            }
            Fact::Piece { stream, ends, .. } => {
                let Some(exchange) = self.stream(stream, known) else { return };
                if ends {
                    self.answered_whole(stream, at, known);
                } else {
                    exchange.read(at);
                    if self.lateness.is_some() {
                        exchange.arrived(at);
                    }
                }
            }
            Fact::HeadersBegin { stream, cut, .. } => {
                if let Some(exchange) = self.stream(stream, known) {
                    exchange.read_head(if cut { before } else { at });
                }
            }
            Fact::HeadersEnd { stream, length, status, interim } => {
                if let Some(exchange) = self.stream(stream, known) {
                    exchange.head_length(length);
                    self.head(exchange, status, interim, at);
                }
            }
            Fact::DataBegin { stream } => {
                if let Some(exchange) = self.stream(stream, known) {
                    exchange.read(at);
                }
            }
            Fact::StreamEnd { stream } => self.answered_whole(stream, at, known),
            Fact::Reset { stream, code } => {
                self.http2(|streams| streams.record.resets_received += 1);
                if let Some(exchange) = self.stream(stream, known) {
                    exchange.cut();
                }
                *known = None;
                self.reset(stream, code);
            }
            Fact::Data { stream, .. } => {
                // Its last byte: hyper hands it on now. Looked up only where somebody may want to know.
                if self.lateness.is_some()
                    && let Some(exchange) = self.stream(stream, known)
                {
                    exchange.arrived(at);
                }
            }
            Fact::Ping { payload, ack } => {
                if let (true, Some(at)) = (ack, at) {
                    self.http2(|streams| streams.pong(payload, at));
                }
            }
            Fact::Setting { id, value } => {
                self.http2(|streams| streams.setting(id, value, at));
                self.wake_driver();
            }
            Fact::GoAway { last_stream, code } => {
                self.http2(|streams| {
                    streams.record.goaway = Some(GoAway { last_stream, error_code: code });
                    self.leaving.store(true, Ordering::Release);
                });
                self.wake_driver();
            }
            Fact::WindowUpdate { stream, by } => {
                self.http2(|streams| streams.flow.window_update(stream, by, at));
            }
            Fact::Foreign => self.foreign.store(true, Ordering::Release),
        }
    }

    /// The last frame of a response was readable.
    fn answered_whole(&self, stream: u32, at: Option<Instant>, known: &mut Known) {
        let Some(exchange) = self.last(stream, known) else { return };
        exchange.arrived(at);
        // It stays known until the request's side is over too.
        if exchange.read_last(at) {
            self.forget(stream);
        }
        exchange.response_over();
    }

    /// A header block of a response is here: interim, final, or the trailers.
    fn head(&self, exchange: &Exchange, status: Option<u16>, interim: Option<Vec<u8>>, at: Option<Instant>) {
        match (status, interim) {
            (Some(status), None) => exchange.head_is_final(Some(status), at),
            // The trailers.
            _ if exchange.is_head_final() => {}
            // Too many: its caller is told, and gives the stream up.
            (Some(status), Some(block)) => drop(exchange.interim(status, at, || fields_of_block(&block))),
            // The peer uses a table that it was told not to use: which head is the final one can't be known.
            (None, _) => self.disagree(),
        }
    }

    fn reset(&self, stream: u32, code: u32) {
        let exchange = self.http2(|streams| {
            streams.record.last_reset_code = Some(code);
            streams.forget(stream)
        });
        if let Some(Some(exchange)) = exchange {
            exchange.reset();
        }
    }
}

/// The frames do not say what was expected of them.
struct Disagreement;

impl Streams {
    /// HEADERS go out. The first ones of a stream must be those of the request that we know it by.
    fn opened(&mut self, stream: u32, ends: bool) -> Result<Option<Arc<Exchange>>, Disagreement> {
        let known = self.get(stream);
        if self.record.disagreed || stream <= self.opened {
            return Ok(known.map(|stream| Arc::clone(&stream.exchange)));
        }
        let known = match known {
            Some(known) if known.ends == ends => Ok(Some(Arc::clone(&known.exchange))),
            _ => Err(Disagreement),
        };
        self.opened = stream;
        known
    }

    /// Its place among those that are open.
    fn place(&self, id: u32) -> Option<usize> {
        match self.open.front() {
            Some(first) if first.id == id => Some(0),
            _ => self.open.binary_search_by_key(&id, |stream| stream.id).ok(),
        }
    }

    fn get(&self, id: u32) -> Option<&Stream> {
        self.place(id).map(|at| &self.open[at])
    }

    fn forget(&mut self, stream: u32) -> Option<Arc<Exchange>> {
        self.flow.forget(stream);
        self.place(stream).and_then(|at| self.open.remove(at)).map(|stream| stream.exchange)
    }

    fn ping(&mut self, payload: [u8; 8], at: Instant) {
        // Who is asked so often and never answers is not asked about.
        if self.pings.len() < MAX_PINGS {
            self.pings.push((payload, at));
        }
    }

    fn pong(&mut self, payload: [u8; 8], at: Instant) {
        if let Some(index) = self.pings.iter().position(|(sent, _)| *sent == payload) {
            let (_, sent) = self.pings.swap_remove(index);
            let round_trip = at.saturating_duration_since(sent);
            self.record.pings_answered += 1;
            self.record.last_round_trip = Some(round_trip);
            self.record.min_round_trip = Some(self.record.min_round_trip.map_or(round_trip, |min| min.min(round_trip)));
        }
    }

    /// RFC 9113 §6.5.2.
    fn setting(&mut self, id: u16, value: u32, at: Option<Instant>) {
        let settings = &mut self.record.settings;
        match id {
            1 => settings.header_table_size = Some(value),
            3 => settings.max_concurrent_streams = Some(value),
            4 => {
                settings.initial_window_size = Some(value);
                self.flow.initial_window(value, at);
            }
            5 => settings.max_frame_size = Some(value),
            6 => settings.max_header_list_size = Some(value),
            8 => settings.enable_connect_protocol = Some(value == 1),
            _ => {}
        }
    }
}

const MAX_PINGS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::Terms,
        hooks::{ClientTrace, emit::Hooks},
    };

    fn dispatched(wire: &Arc<Wire>, ends: bool) -> Arc<Exchange> {
        let hooks = Hooks::new(Some(Arc::new(()) as Arc<dyn ClientTrace>), None);
        let terms = Terms { max_informational: 50, max_head_bytes: 1000, ..Terms::default() };
        let exchange = Arc::new(Exchange::new(hooks, None, terms, None, Arc::clone(wire)));
        exchange.dispatch(ends);
        exchange
    }

    fn lost(exchange: &Exchange) -> bool {
        exchange.marks().detail_lost
    }

    #[test]
    fn streams_are_numbered_in_the_order_of_dispatch() {
        let wire = Arc::new(Wire::new(Protocol::Http2, true, None));
        let (first, second) = (dispatched(&wire, true), dispatched(&wire, false));
        for (stream, ends) in [(1, true), (3, false)] {
            wire.told_out(Fact::HeadersBegin { stream, ends, cut: false }, None, &mut None);
        }
        assert_eq!((first.marks().stream_id, second.marks().stream_id), (Some(1), Some(3)));
        assert!(first.marks().touched && second.marks().touched && !lost(&first) && !lost(&second));
        // Trailers of a request are no second head.
        wire.told_out(Fact::HeadersBegin { stream: 3, ends: true, cut: false }, None, &mut None);
        assert!(!lost(&second));
    }

    #[test]
    fn frames_that_do_not_agree_with_what_was_dispatched_void_all_detail() {
        type Wrong = fn(&Wire, &Exchange);
        let wrongs: [(&str, Wrong); 4] = [
            ("a stream that nobody was given", |wire, _| {
                wire.told_out(Fact::HeadersBegin { stream: 7, ends: true, cut: false }, None, &mut None)
            }),
            ("a head that does not end the stream", |wire, _| {
                wire.told_out(Fact::HeadersBegin { stream: 1, ends: false, cut: false }, None, &mut None);
            }),
            ("another answer than hyper gave", |wire, exchange| {
                wire.told_in(Fact::HeadersBegin { stream: 1, ends: true, cut: false }, None, None, &mut None);
                wire.told_in(
                    Fact::HeadersEnd { stream: 1, length: 1, status: Some(404), interim: None },
                    None,
                    None,
                    &mut None,
                );
                wire.answered(exchange, StatusCode::OK);
            }),
            ("a head that can't be read", |wire, _| {
                wire.told_in(Fact::HeadersBegin { stream: 1, ends: true, cut: false }, None, None, &mut None);
                wire.told_in(
                    Fact::HeadersEnd { stream: 1, length: 1, status: None, interim: None },
                    None,
                    None,
                    &mut None,
                );
            }),
        ];
        for (name, wrong) in wrongs {
            let wire = Arc::new(Wire::new(Protocol::Http2, true, None));
            let (first, other) = (dispatched(&wire, true), dispatched(&wire, true));
            wrong(&wire, &first);
            let later = dispatched(&wire, true);
            for exchange in [&first, &other, &later] {
                assert!(lost(exchange) && exchange.marks().stream_id.is_none(), "{name}");
            }
            assert!(wire.record().is_some_and(|record| record.disagreed), "{name}");
        }
    }

    #[test]
    fn a_stream_that_hyper_refused_is_forgotten_and_the_next_ones_keep_their_numbers() {
        let wire = Arc::new(Wire::new(Protocol::Http2, true, None));
        let refused = dispatched(&wire, true);
        wire.refused(&refused);
        let next = dispatched(&wire, true);
        wire.told_out(Fact::HeadersBegin { stream: 3, ends: true, cut: false }, None, &mut None);
        assert!(next.marks().touched && !lost(&next) && refused.marks().response_over);
    }
}
