//! Several traces as one. Each is called on its own, so that one that panics does not silence the others.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::*;

/// Several traces, called in order: the first one first.
///
/// ```
/// use std::sync::Arc;
/// use httptrace::hooks::{ClientTrace, Stack};
///
/// let both: Arc<dyn ClientTrace> = Arc::new(Stack::new([Arc::new(()) as Arc<dyn ClientTrace>, Arc::new(())]));
/// # drop(both);
/// ```
pub struct Stack(Vec<Arc<dyn ClientTrace>>);

impl Stack {
    /// One trace out of several.
    pub fn new(traces: impl IntoIterator<Item = Arc<dyn ClientTrace>>) -> Self {
        Self(traces.into_iter().collect())
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stack({})", self.0.len())
    }
}

/// Calls a hook, or a report; a panic ends in the panic hook's message and nowhere else.
pub(crate) fn contained<T>(hook: impl FnOnce() -> T) -> Option<T> {
    // What the trace left half done is its own; ours is untouched, since it gets shared references only, or what is its own
    // to change.
    catch_unwind(AssertUnwindSafe(hook)).ok()
}

macro_rules! fan_out {
    ($($hook:ident($info:ty);)+) => {
        impl ClientTrace for Stack {
            $(fn $hook(&self, info: &$info) {
                for trace in &self.0 {
                    contained(|| trace.$hook(info));
                }
            })+
        }
    };
}

fan_out! {
    get_conn(GetConnInfo<'_>);
    got_conn(GotConnInfo<'_>);
    get_conn_failed(GetConnFailedInfo<'_>);
    put_idle_conn(PutIdleConnInfo);
    got_first_response_byte(GotFirstResponseByteInfo);
    got_100_continue(Got100ContinueInfo);
    got_1xx_response(Got1xxResponseInfo<'_>);
    dns_start(DnsStartInfo<'_>);
    dns_done(DnsDoneInfo<'_>);
    connect_start(ConnectStartInfo);
    connect_done(ConnectDoneInfo<'_>);
    tunnel_start(TunnelStartInfo<'_>);
    tunnel_done(TunnelDoneInfo<'_>);
    tls_handshake_start(TlsHandshakeStartInfo<'_>);
    tls_handshake_done(TlsHandshakeDoneInfo<'_>);
    wrote_header_field(WroteHeaderFieldInfo<'_>);
    wrote_headers(WroteHeadersInfo);
    wait_100_continue(Wait100ContinueInfo);
    wrote_request(WroteRequestInfo<'_>);
    response_done(ResponseDoneInfo<'_>);
    conn_closed(ConnClosedInfo<'_>);
    keep_alive_mismatch(KeepAliveMismatchInfo<'_>);
    retry(RetryInfo<'_>);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Named(&'static str, Arc<Mutex<Vec<&'static str>>>, bool);

    impl ClientTrace for Named {
        fn get_conn(&self, _: &GetConnInfo<'_>) {
            self.1.lock().expect("no panic under the lock").push(self.0);
            assert!(!self.2, "a hook that panics");
        }
    }

    #[test]
    fn the_newer_trace_runs_first_and_a_panic_does_not_silence_the_older() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut request = Request::new(());
        assert!(client_trace(&request).is_none());
        with_client_trace(&mut request, Arc::new(Named("older", Arc::clone(&seen), false)));
        with_client_trace(&mut request, Arc::new(Named("newer", Arc::clone(&seen), true)));
        let trace = client_trace(&request).expect("two traces");
        trace.get_conn(&GetConnInfo { at: crate::clock::now(), host: "a", port: 1 });
        assert_eq!(*seen.lock().expect("no panic under the lock"), ["newer", "older"]);
    }
}
