//! The log of hooks: whole ones pass, and each call that is missing or doubled is noticed.

use super::moment;
use crate::support::trace::Log;

fn log_of(calls: &[&'static str]) -> Log {
    let log = Log::new();
    let at = moment();
    for call in calls {
        let (name, pair) = call.split_once(' ').unwrap_or((call, ""));
        log.add(name, pair.to_owned(), String::new(), at);
    }
    log
}

/// A request with two addresses, the first of which fails.
const WHOLE: [&str; 13] = [
    "get_conn",
    "dns_start",
    "dns_done",
    "connect_start ::1 #1",
    "connect_start 127.0.0.1 #2",
    "connect_done ::1 #1",
    "connect_done 127.0.0.1 #2",
    "tls_handshake_start",
    "tls_handshake_done",
    "got_conn",
    "wrote_headers",
    "response_done",
    "put_idle_conn",
];

#[tokio::test]
async fn a_whole_log_pairs_and_is_settled() {
    let log = log_of(&WHOLE);
    log.settled().await.assert_paired();
    log_of(&["get_conn", "get_conn_failed"]).assert_paired();
    let retried = ["got_conn", "response_done", "put_idle_conn", "retry", "get_conn", "get_conn_failed"];
    log_of(&[&["get_conn"], &retried[..]].concat()).assert_paired();
    log_of(&[WHOLE, WHOLE].concat()).assert_paired_over(2);
}

#[test]
fn a_log_without_any_one_of_its_calls_does_not_pair() {
    for missing in WHOLE.iter().filter(|call| **call != "wrote_headers") {
        let calls: Vec<_> = WHOLE.iter().filter(|call| *call != missing).copied().collect();
        assert!(!log_of(&calls).faults(1).is_empty(), "{missing} is not missed");
    }
}

#[test]
fn a_log_with_any_one_of_its_calls_twice_does_not_pair() {
    for (index, twice) in WHOLE.iter().enumerate() {
        let mut calls = WHOLE.to_vec();
        calls.insert(index, twice);
        assert!(!log_of(&calls).faults(1).is_empty(), "{twice} may come twice");
    }
}

#[test]
#[should_panic(expected = "dns_start without dns_done")]
fn a_lookup_without_end_is_named() {
    log_of(&["get_conn", "dns_start", "get_conn_failed"]).assert_paired();
}

#[test]
#[should_panic(expected = "connect_done b #2 without connect_start")]
fn a_connect_that_never_began_is_named() {
    log_of(&["get_conn", "connect_start a #1", "connect_done b #2", "get_conn_failed"]).assert_paired();
}

#[test]
#[should_panic(expected = "2 get_conn in 1 attempts")]
fn a_second_attempt_without_a_retry_is_named() {
    log_of(&["get_conn", "get_conn_failed", "get_conn", "get_conn_failed"]).assert_paired();
}

#[tokio::test]
async fn the_log_wakes_who_waits_for_a_hook() {
    let log = Log::new();
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait_for("get_conn", 2).await.count("get_conn") }
    });
    log.add("get_conn", String::new(), String::new(), moment());
    log.add("got_conn", String::new(), "id=1".to_owned(), moment());
    assert!(!waiting.is_finished());
    log.add("get_conn", String::new(), String::new(), moment());
    assert_eq!(waiting.await.expect("no panic"), 2);
    assert_eq!(log.names(), ["get_conn", "got_conn", "get_conn"]);
    assert_eq!(log.details("got_conn"), ["id=1"]);
    assert!(log.to_string().contains("got_conn  id=1"), "{log}");
}
