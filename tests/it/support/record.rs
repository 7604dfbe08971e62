//! What an origin saw: every connection that it accepted, and every request on it.

use http::HeaderMap;

/// Everything so far, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) connections: Vec<Connection>,
    pub(crate) requests: Vec<SeenRequest>,
}

/// One accepted connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    /// What ALPN chose.
    pub(crate) alpn: Option<String>,
    /// Why the TLS handshake failed.
    pub(crate) handshake_error: Option<String>,
    /// Everything that a script read.
    pub(crate) received: Vec<u8>,
    /// The request heads that a script read, as they came.
    pub(crate) heads: Vec<String>,
    /// Bytes of a flood that the client, or the system for it, took.
    pub(crate) flooded: usize,
    /// Requests that are being answered at this moment.
    pub(crate) in_flight: usize,
    /// Whether it is over, or at least the client's half of it.
    pub(crate) closed: bool,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct SeenRequest {
    /// The connection that it came on, from 1.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// Requests that were being answered on this connection when it came, itself included.
    pub(crate) in_flight: usize,
}

impl SeenRequest {
    /// The request in an HTTP/1 head.
    pub(crate) fn of_head(connection: usize, head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let mut start = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, target) = (start.next().unwrap_or_default(), start.next().unwrap_or_default());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a field name");
            headers.append(name, value.trim().parse().expect("a field value"));
        }
        Self { connection, method, target, headers, in_flight: 1 }
    }

    /// Its `traceparent`, if it has one.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.headers.get("traceparent").map(|value| value.to_str().expect("visible ASCII"))
    }
}

impl Record {
    /// The connection with this number, from 1.
    pub(crate) fn connection(&mut self, number: usize) -> &mut Connection {
        &mut self.connections[number - 1]
    }

    /// Connections that carried at least one request.
    pub(crate) fn connections_used(&self) -> usize {
        let used = |number: usize| self.requests.iter().any(|request| request.connection == number);
        (1..=self.connections.len()).filter(|number| used(*number)).count()
    }
}
