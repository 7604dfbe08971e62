//! Every hook that there is, in one list.

/// Does the same in every hook of `ClientTrace`: `every_hook! { for Type, |self, name, info| … }`.
macro_rules! every_hook {
    (for $type:ty, |$this:pat_param, $name:pat_param, $info:pat_param| $body:expr) => {
        $crate::every::every_hook! {
            @ $type, $this, $name, $info, $body;
            get_conn(GetConnInfo<'_>)
            got_conn(GotConnInfo<'_>)
            get_conn_failed(GetConnFailedInfo<'_>)
            put_idle_conn(PutIdleConnInfo)
            got_first_response_byte(GotFirstResponseByteInfo)
            got_100_continue(Got100ContinueInfo)
            got_1xx_response(Got1xxResponseInfo<'_>)
            dns_start(DnsStartInfo<'_>)
            dns_done(DnsDoneInfo<'_>)
            connect_start(ConnectStartInfo)
            connect_done(ConnectDoneInfo<'_>)
            tunnel_start(TunnelStartInfo<'_>)
            tunnel_done(TunnelDoneInfo<'_>)
            tls_handshake_start(TlsHandshakeStartInfo<'_>)
            tls_handshake_done(TlsHandshakeDoneInfo<'_>)
            wrote_header_field(WroteHeaderFieldInfo<'_>)
            wrote_headers(WroteHeadersInfo)
            wait_100_continue(Wait100ContinueInfo)
            wrote_request(WroteRequestInfo<'_>)
            response_done(ResponseDoneInfo<'_>)
            conn_closed(ConnClosedInfo<'_>)
            keep_alive_mismatch(KeepAliveMismatchInfo<'_>)
            retry(RetryInfo<'_>)
        }
    };
    (@ $type:ty, $this:pat_param, $name:pat_param, $info:pat_param, $body:expr;
        $($hook:ident($kind:ident $(<$life:lifetime>)?))+) => {
        impl httptrace::ClientTrace for $type {
            $(fn $hook(&self, info: &httptrace::hooks::$kind $(<$life>)?) {
                let ($this, $name, $info) = (self, stringify!($hook), info);
                $body
            })+
        }
    };
}

pub(crate) use every_hook;

#[test]
fn the_list_has_every_hook() {
    let (hooks, list) = (include_str!("../../src/hooks/mod.rs"), include_str!("every.rs"));
    let hook = |line: &'static str| Some(line.trim().strip_prefix("fn ")?.split_once("(&self, info: &")?.0);
    let hooks: Vec<_> = hooks.lines().filter_map(hook).collect();
    assert!(hooks.len() > 20, "{hooks:?}");
    for hook in hooks {
        assert!(list.contains(&format!("            {hook}(")), "{hook} is not in the list");
    }
}
