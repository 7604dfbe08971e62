//! Facts beside the marks, in the command's own words: of the socket, of the server's own time, of who waited for whom.

use super::*;

const TIMED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\
                     Server-Timing: db;dur=0.5;desc=\"first \\\"one\\\"\", miss\r\n\r\nhello";

#[test]
fn json_has_the_servers_time_the_polls_and_the_kernels_view() {
    let origin = Origin::start(&[Reply::Late(5, TIMED), Reply::Send(OK)]);
    let ran = httptrace(&["--format", "json", "-n", "2", &origin.url("/")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines = ran.lines();
    let timing = &lines[0]["server_timing"];
    let metrics = serde_json::json!([
        {"name": "db", "duration_us": 500.0, "description": "first \"one\""},
        {"name": "miss", "duration_us": null}
    ]);
    assert_eq!((&timing["metrics"], &timing["total_us"]), (&metrics, &500.0.into()));
    assert!(timing["network_us"].as_f64().unwrap() > 3_000.0, "{timing}");
    assert_eq!(lines[1].get("server_timing"), None);
    for line in &lines {
        assert!(line["runtime_delay_us"].as_f64().unwrap() > 0.0, "{line}");
        assert!(line["response_blocked"]["application_us"].is_f64() && line["response_blocked"]["network_us"].is_f64());
        if cfg!(target_os = "linux") {
            assert_eq!((&line["tcp"]["retransmits"], &line["tcp"]["done"]["unsent_bytes"]), (&0.into(), &0.into()));
            assert!(line["tcp"]["checkout"]["rtt_us"].as_f64().unwrap() > 0.0, "{line}");
            assert!(line["connection"]["socket_cookie"].as_u64().unwrap() > 0, "{line}");
        }
    }
    assert_eq!(lines[0]["connection"]["socket_cookie"], lines[1]["connection"]["socket_cookie"]);
}

#[test]
fn the_chart_says_how_long_the_server_took() {
    let origin = Origin::start(&[Reply::Late(5, TIMED)]);
    let ran = httptrace(&[&origin.url("/")]);
    assert!(ran.stdout.contains("server 500 µs, network "), "{}", ran.stdout);
}
