//! One behaviour of an origin as data: what it does, and what a client makes of it.

use httptrace::ClientBuilder;

use crate::support::{
    certificate::Identity,
    frames::{DATA, HEADERS, PREFACE, answer, greeting},
    origin::{Origin, OriginBuilder},
    script::{
        Step::{self, AwaitClose, Read, ReadFrame, ReadHead},
        write,
    },
};

/// What an answer looks like that is as it should be.
pub(crate) const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

/// How the origin is reached.
#[derive(Clone, Copy)]
pub(crate) enum Over {
    Http1,
    /// With prior knowledge.
    Http2,
    /// TLS with this certificate and ALPN; later connections speak what it chose.
    Tls(fn() -> Identity),
    /// `https` to a server that has no TLS.
    NoTls,
}

/// What the application asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Get,
    /// With a body of four bytes, which can be sent again.
    Post,
    Head,
}

/// What it gets: an answer with this status and body, or an error of one of these phases and types.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ends {
    Answer(u16, &'static str),
    Dies(&'static [(&'static str, &'static str)]),
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next request is sent on it.
    Reuses,
    /// The next request needs another connection.
    Dials,
    /// The next request waits for it until its own timeout: nothing tells the connection from a slow one.
    Waits,
    /// The one or the other, as much fits into the sockets' buffers.
    WaitsOrDials,
}

/// What ends the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// What the origin did; no timeout is near.
    AtOnce,
    /// The timeout of that name in the builder.
    Timeout(&'static str),
}

/// One behaviour.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) over: Over,
    /// What the first connection does; all others answer as they should.
    pub(crate) script: Vec<Step>,
    pub(crate) asks: &'static [Ask],
    pub(crate) get: Ends,
    /// If it ends otherwise with a body on the way.
    pub(crate) post: Option<Ends>,
    pub(crate) next: Next,
    pub(crate) time: Time,
    /// Requests that the connection answers before it turns hostile.
    pub(crate) before: usize,
    /// How often the origin gets the POST, at most.
    pub(crate) posts: usize,
    pub(crate) client: fn(ClientBuilder) -> ClientBuilder,
    /// Why the connection closes that has answered and is not used again.
    pub(crate) closes: &'static [&'static str],
}

/// A case over HTTP/1, with these steps.
pub(crate) fn http1(name: &'static str, steps: impl Into<Vec<Step>>) -> Case {
    Case {
        name,
        over: Over::Http1,
        script: steps.into(),
        asks: &[Ask::Get, Ask::Post],
        get: Ends::Answer(200, "good"),
        post: None,
        next: Next::Dials,
        time: Time::AtOnce,
        before: 0,
        posts: 1,
        client: |builder| builder,
        closes: &[],
    }
}

/// The same over HTTP/2, behind the client's preface; the server's is the script's own.
pub(crate) fn http2_raw(name: &'static str, steps: impl Into<Vec<Step>>) -> Case {
    let script = [Read(PREFACE)].into_iter().chain(steps.into()).collect::<Vec<_>>();
    Case { over: Over::Http2, ..http1(name, script) }
}

/// The same behind both prefaces and the request.
pub(crate) fn http2(name: &'static str, steps: impl Into<Vec<Step>>) -> Case {
    let script = [greeting(), ReadFrame(HEADERS, 1)].into_iter().chain(steps.into()).collect::<Vec<_>>();
    http2_raw(name, script)
}

impl Case {
    /// It gets no answer, and this is why: phase and type.
    pub(crate) fn dies(self, phase: &'static str, error_type: &'static str) -> Self {
        let pair: &'static [(&str, &str)] = Box::leak(Box::new([(phase, error_type)]));
        self.dies_of(pair)
    }

    /// It gets no answer, and it is one of these, as it happens.
    pub(crate) fn dies_of(self, any: &'static [(&'static str, &'static str)]) -> Self {
        Self { get: Ends::Dies(any), ..self }
    }

    pub(crate) fn post_dies(self, phase: &'static str, error_type: &'static str) -> Self {
        let pair: &'static [(&str, &str)] = Box::leak(Box::new([(phase, error_type)]));
        Self { post: Some(Ends::Dies(pair)), ..self }
    }

    pub(crate) fn answers(self, status: u16, body: &'static str) -> Self {
        Self { get: Ends::Answer(status, body), ..self }
    }

    /// The connection is as good as before.
    pub(crate) fn reuses(self) -> Self {
        Self { next: Next::Reuses, ..self }
    }

    /// The next request fares no better.
    pub(crate) fn waits(self) -> Self {
        Self { next: Next::Waits, ..self }
    }

    /// As above, or the connection was found to be stuck.
    pub(crate) fn waits_or_dials(self) -> Self {
        Self { next: Next::WaitsOrDials, ..self }
    }

    /// The connection does not survive.
    pub(crate) fn dials(self) -> Self {
        Self { next: Next::Dials, ..self }
    }

    /// It has answered, and this is why it takes no more requests.
    pub(crate) fn closes(self, reason: &'static str) -> Self {
        Self { closes: Box::leak(Box::new([reason])), ..self }
    }

    /// The same, if it is so and the row says nothing else.
    pub(crate) fn left_for(self, reason: &'static str) -> Self {
        if self.is_left() && self.closes.is_empty() { self.closes(reason) } else { self }
    }

    /// Whether it answers and is not used again.
    pub(crate) fn is_left(&self) -> bool {
        matches!(self.get, Ends::Answer(..)) && self.next == Next::Dials
    }

    pub(crate) fn only(self, asks: &'static [Ask]) -> Self {
        Self { asks, ..self }
    }

    pub(crate) fn over(self, over: Over) -> Self {
        Self { over, ..self }
    }

    /// So often the origin gets the POST.
    pub(crate) fn posts(self, posts: usize) -> Self {
        Self { posts, ..self }
    }

    /// Behind one request that is answered as it should be.
    pub(crate) fn after_one(self) -> Self {
        Self { before: 1, ..self }
    }

    pub(crate) fn with(self, client: fn(ClientBuilder) -> ClientBuilder) -> Self {
        Self { client, ..self }
    }

    /// Nothing but this timeout ends it.
    pub(crate) fn until(self, timeout: &'static str, client: fn(ClientBuilder) -> ClientBuilder) -> Self {
        Self { time: Time::Timeout(timeout), client, ..self }
    }

    pub(crate) fn ends(&self, ask: Ask) -> Ends {
        match ask {
            Ask::Post => self.post.unwrap_or(self.get),
            Ask::Get | Ask::Head => self.get,
        }
    }

    /// The origin, its later connections well-behaved.
    pub(crate) fn origin(&self, ask: Ask) -> Origin {
        let mut first = self.script.clone();
        if ask == Ask::Post && self.before == 0 {
            wait_for_the_body(&mut first);
        }
        let (builder, good) = match self.over {
            Over::Http1 => (Origin::plain(), good_http1()),
            Over::Http2 => (Origin::plain(), good_http2()),
            Over::Tls(identity) => {
                let identity = identity();
                let http2 = identity.config.alpn_protocols.first().is_some_and(|first| first == b"h2");
                (Origin::tls_as(identity), if http2 { good_http2() } else { good_http1() })
            }
            Over::NoTls => (Origin::plain(), first.clone()),
        };
        start(builder, first, good)
    }
}

/// The answer comes when all of the request has.
fn wait_for_the_body(script: &mut Vec<Step>) {
    if script.iter().any(|step| matches!(step, ReadFrame(DATA, _))) {
        return;
    }
    for at in 0..script.len() {
        match script[at] {
            ReadHead => return script.insert(at + 1, Read(4)),
            ReadFrame(HEADERS, stream) => return script[at] = ReadFrame(DATA, stream),
            _ => {}
        }
    }
}

fn start(builder: OriginBuilder, first: Vec<Step>, good: Vec<Step>) -> Origin {
    builder.scripts([first, good])
}

fn good_http1() -> Vec<Step> {
    let once = || [ReadHead, write(GOOD)];
    once().into_iter().chain(once()).chain(once()).chain([AwaitClose]).collect()
}

fn good_http2() -> Vec<Step> {
    let once = |stream| [ReadFrame(HEADERS, stream), answer(stream, "good")];
    let streams = [1, 3, 5].into_iter().flat_map(once);
    [Read(PREFACE), greeting()].into_iter().chain(streams).chain([AwaitClose]).collect()
}
