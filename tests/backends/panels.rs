//! Every expression of every panel of the dashboard, asked of a real Prometheus and held against the origin's own counts.
//!
//! The demo's load runs several times, each in another shape. For counts it exports once, at its end, always as the same
//! process: so a series is a staircase, and its rate between two scrapes is known to the last request ([`Series`]). For
//! durations it exports all the time (buckets of staircases that begin again would not fit together), and quantiles are held
//! against what the origin's script makes them at least and at most. A panel that is in neither [`counted`] nor [`timed`]
//! fails the test.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    time::SystemTime,
};

use httptrace::otlp::Protocol;
use serde_json::Value;

use crate::{
    dashboard::{Panel, Window, panels},
    demo::{Demo, Shape, load_environment, program},
    jaeger::Jaeger,
    process::Process,
    prometheus::Prometheus,
};

/// What an expression has to be.
#[derive(Debug)]
enum Expected {
    /// So many in the whole window, by legend. Legends that are not named are zero or absent.
    Count(BTreeMap<String, f64>),
    /// These values, by legend, and no others.
    Values(BTreeMap<String, f64>),
    /// Values between these two, by legend, and no others.
    Shares(BTreeMap<String, (f64, f64)>),
    /// One value, between these two.
    Between(f64, f64),
}

/// What was counted, by series: the metric, its labels, and the value.
#[derive(Default, Clone)]
struct Series(BTreeMap<(&'static str, Vec<String>), f64>);

/// A run of the load.
struct Run {
    shape: Shape,
    /// What the origin counted during this run.
    counts: Value,
    attempts: Vec<Value>,
}

/// The time between two runs' last scrapes.
struct Interval<'a> {
    demo: &'a Demo,
    /// What each series grew by, as a rate sees it.
    grown: Series,
    run: &'a Run,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger, prometheus and the demo's origin: .ci/run full"]
async fn every_expression_of_every_panel_is_what_the_origin_counted() {
    for _ in 0..3 {
        if let Some(asked) = measure().await {
            assert!(asked > 60, "only {asked} expressions were asked");
            return;
        }
    }
    panic!("in each of three tries a request was lost on a connection that the origin was closing");
}

/// Runs the load in all its shapes, and says how many expressions were asked. None if a run was no measure.
async fn measure() -> Option<usize> {
    let jaeger = Jaeger::start().await;
    let prometheus = Prometheus::start(&jaeger).await;
    let demo = Demo::start().await;
    let otlp = jaeger.otlp(Protocol::HttpProtobuf);
    // One request at a time: then nothing depends on who is faster.
    let stairs =
        |rounds, sorted, body| Shape { rounds, at_once: 1, sorted, body, process: "stairs", export_every: 600_000 };
    let live =
        |rounds, at_once, process| Shape { rounds, at_once, sorted: false, body: None, process, export_every: 200 };
    // The first two are the ground on which the others' steps are seen: a rate does not see a series begin.
    let stairs = [
        stairs(1, false, None),
        stairs(1, true, Some("12345678")),
        stairs(2, true, None),
        stairs(2, false, Some("1234")),
    ];
    let shapes = stairs.into_iter().chain([live(6, 4, "live-4"), live(3, 1, "live-1")]);
    let (mut levels, mut from, mut asked) = (Series::default(), 0.0, 0);
    for (number, shape) in shapes.enumerate() {
        let run = Run::of(&demo, shape, &otlp).await?;
        let window = Window { from, to: scraped(&prometheus).await };
        let grown = levels.step(Series::of(&demo, &run));
        from = window.to;
        if number >= 2 {
            asked += ask_all(&prometheus, window, &Interval { demo: &demo, grown, run: &run }).await;
        }
    }
    Some(asked)
}

async fn ask_all(prometheus: &Prometheus, window: Window, interval: &Interval<'_>) -> usize {
    let mut asked = 0;
    let mut wrong = Vec::new();
    for Panel { title, targets, .. } in panels() {
        for (number, target) in targets.iter().enumerate() {
            let values = target.values(prometheus, window).await;
            let live = interval.run.shape.export_every < 1000;
            let expected = match (counted(&title, number, interval), timed(&title, number, interval.demo)) {
                (Some(counted), None) if !live => counted,
                (None, Some(timed)) if live => timed,
                (Some(_), None) | (None, Some(_)) => continue,
                _ => panic!("the panel {title} has no expectation: say in one of the two what it has to show"),
            };
            if let Err(why) = expected.compare(&values, window) {
                wrong.push(format!("{title}, {}: {why}\n  {values:?}\n  {expected:?}", target.legend));
            }
            asked += 1;
        }
    }
    if !wrong.is_empty() {
        for s in prometheus.query_at("httptrace_connection_idle_duration_seconds_count", window.to).await.unwrap() {
            println!("DBG now {} {} {}", s.label("server_port"), s.label("httptrace_idle_outcome"), s.value);
        }
        for s in prometheus.query_at("httptrace_connection_idle_duration_seconds_count", window.from).await.unwrap() {
            println!("DBG before {} {} {}", s.label("server_port"), s.label("httptrace_idle_outcome"), s.value);
        }
        println!("DBG {:?}", interval.grown.0.iter().filter(|((m, _), _)| *m == "idle").collect::<Vec<_>>());
        for a in &interval.run.attempts {
            println!(
                "DBG {}",
                serde_json::json!([
                    a["url"],
                    a["start_unix_nanos"],
                    a["duration_us"],
                    a["connection"]["id"],
                    a["connection"]["idle_us"],
                    a["connection"]["reused"],
                    a["events"]
                ])
            );
        }
    }
    assert!(wrong.is_empty(), "{:?}: {}\n{}", interval.run.shape, wrong.join("\n"), interval.run.counts);
    asked
}

impl Expected {
    fn compare(&self, values: &[(String, f64)], window: Window) -> Result<(), String> {
        let close = |value: f64, wanted: f64| (value - wanted).abs() <= 1e-3 * wanted.abs().max(1e-3);
        let found: BTreeMap<_, _> = values.iter().cloned().collect();
        if found.len() != values.len() {
            return Err("two lines of one name".to_owned());
        }
        match self {
            Self::Count(wanted) => {
                let legends = wanted.keys().chain(found.keys());
                let off: Vec<_> = legends
                    .filter(|legend| {
                        let count = found.get(*legend).copied().unwrap_or(0.0) * window.seconds();
                        !close(count, wanted.get(*legend).copied().unwrap_or(0.0))
                    })
                    .collect();
                if off.is_empty() { Ok(()) } else { Err(format!("{off:?} over {} s", window.seconds())) }
            }
            Self::Values(wanted) => {
                let same = wanted.len() == found.len()
                    && wanted
                        .iter()
                        .all(|(legend, wanted)| found.get(legend).is_some_and(|value| close(*value, *wanted)));
                if same { Ok(()) } else { Err("not these".to_owned()) }
            }
            Self::Shares(wanted) => {
                let inside = |(legend, (least, most)): (&String, &(f64, f64))| {
                    found.get(legend).is_some_and(|value| (*least - 1e-3..=*most + 1e-3).contains(value))
                };
                if wanted.len() == found.len() && wanted.iter().all(inside) {
                    Ok(())
                } else {
                    Err("not these".to_owned())
                }
            }
            Self::Between(least, most) => match values {
                [(_, value)] if (*least..=*most).contains(value) => Ok(()),
                _ => Err("outside".to_owned()),
            },
        }
    }
}

/// What a panel of counts has to show.
fn counted(title: &str, number: usize, interval: &Interval<'_>) -> Option<Expected> {
    let Interval { demo, grown, run } = interval;
    let count =
        |metric, legend: &dyn Fn(&[String]) -> String| Expected::Count(grown.by(metric, |labels| Some(legend(labels))));
    let share = |metric: [&str; 2], part: &dyn Fn(&[String]) -> bool| {
        let part = grown.by(metric[0], |labels| part(labels).then(|| labels[0].clone()));
        Expected::Values(divide(&part, &grown.by(metric[1], |labels| Some(labels[0].clone()))))
    };
    let failures = |legend: &dyn Fn(&[String]) -> Option<String>| Expected::Count(grown.by("attempts", legend));
    let joined = |labels: &[String]| labels.join(" ");
    Some(match title {
        "Reuse ratio" => share(["acquired"; 2], &|labels| labels[1] == "true"),
        "Reuse ratio at the last collection" => {
            let doors = ["h1", "h2"].map(|door| (demo.address(door), run.reused(door) / run.requests(door)));
            Expected::Values(doors.into())
        }
        "New and reused connections" => count("acquired", &|labels| format!("reused: {}", labels[1])),
        "How idle times end" => count("idle", &|labels| labels[1].clone()),
        "Requests per connection" => share(["heads", "closed"], &|_| true),
        "Why connections were closed" => count("closed", &|labels| labels[1].clone()),
        "Pending requests" | "Requests under way" => {
            Expected::Values(demo.everywhere().into_iter().map(|host| (host, 0.0)).collect())
        }
        "Open connections" => Expected::Values(["active", "idle"].map(|state| (state.to_owned(), 0.0)).into()),
        "Failing requests" => share(["attempts"; 2], &|labels| !labels[3].is_empty()),
        "Failures by phase" => {
            failures(&|labels| (!labels[4].is_empty()).then(|| format!("{}: {}", labels[4], labels[3])))
        }
        "Bad answers" => failures(&|labels| (!labels[3].is_empty() && labels[4].is_empty()).then(|| labels[2].clone())),
        "Failed acquisitions" => count("not acquired", &joined),
        "Failing lookups" => count("failed lookups", &joined),
        "Failing connects" => count("failed connects", &joined),
        "Failing handshakes" => count("failed handshakes", &joined),
        "Requests" => count("attempts", &|labels| labels[0].clone()),
        "Bytes" => {
            let direction = ["received", "sent"][number];
            count(direction, &|labels| format!("{} {direction}", labels[0]))
        }
        _ => return None,
    })
}

/// What a panel of durations has to show: of p50, p95 and p99 the least and the most.
fn timed(title: &str, number: usize, demo: &Demo) -> Option<Expected> {
    // One URL of 23 is a handshake that is given up after 1 s, one an answer that is given up after 2 s; two take 0.6 s.
    let (least, most) = match title {
        // The origin ends what is idle for 0.4 s; the bucket ends at 0.5 s.
        "Idle time at reuse" => ([0.0, 0.1, 0.1], [0.3, 0.5, 0.5]),
        "Lifetime of connections" => ([0.0, 0.4, 0.4], [5.0, 20.0, 20.0]),
        "Whole request" => ([0.0, 0.75, 1.0], [0.25, 2.5, 2.5]),
        "First byte" => ([0.0, 0.25, 0.5], [0.25, 1.0, 1.0]),
        "Queue" => ([0.0, 0.0, 0.75], [0.1, 1.0, 2.5]),
        "DNS lookup" => ([0.0, 0.0, 0.0], [0.25, 1.0, 1.0]),
        "Connect" => ([0.0, 0.0, 0.0], [0.1, 0.5, 0.5]),
        "TLS handshake" => ([0.0, 0.75, 0.75], [0.25, 2.5, 2.5]),
        // All at the mute door, nobody knows how many elsewhere.
        "Requests that had to wait" => {
            let mute = demo.address("mute");
            let share = |host: String| (host.clone(), if host == mute { (1.0, 1.0) } else { (0.0, 1.0) });
            return Some(Expected::Shares(demo.everywhere().into_iter().map(share).collect()));
        }
        _ => return None,
    };
    Some(Expected::Between(least[number], most[number]))
}

fn divide(part: &BTreeMap<String, f64>, whole: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let of = |key: &str| part.get(key).copied().unwrap_or(0.0);
    whole.iter().filter(|(_, whole)| **whole > 0.0).map(|(key, whole)| (key.clone(), of(key) / whole)).collect()
}

impl Run {
    /// Runs the load. A run is no measure if a request did not get through to the origin, as happens to one that is sent
    /// while the origin closes its connection.
    async fn of(demo: &Demo, shape: Shape, otlp: &str) -> Option<Self> {
        let before = demo.counts().await;
        let (_, attempts) = tokio::task::block_in_place(|| demo.load(shape, otlp));
        let run = Self { shape, counts: difference(&demo.counts().await, &before), attempts };
        let first = |attempt: &&Value| attempt["attempt"] == 1 && attempt["hop"] == 0;
        let requests = run.attempts.iter().filter(first).count();
        assert_eq!(requests, shape.rounds as usize * demo.urls_at("https://"), "the load sent something else");
        let seen = |door: &str| run.attempts_at(demo, door).count() as f64 == run.requests(door);
        (seen("h1") && seen("h2")).then_some(run)
    }

    fn attempts_at(&self, demo: &Demo, door: &str) -> impl Iterator<Item = &Value> {
        let start = format!("https://{}/", demo.address(door));
        self.attempts.iter().filter(move |attempt| attempt["url"].as_str().is_some_and(|url| url.starts_with(&start)))
    }

    fn number(&self, door: &str, path: &str) -> f64 {
        self.counts[door].pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// Of the connections that ended like this: how many there were, or how many requests or heads they had.
    fn ended(&self, door: &str, end: &str, what: &str) -> f64 {
        self.number(door, &format!("/ends/{end}/{what}"))
    }

    fn total(&self, door: &str, what: &str) -> f64 {
        ENDS.iter().map(|end| self.ended(door, end, what)).sum()
    }

    fn requests(&self, door: &str) -> f64 {
        self.total(door, "requests")
    }

    /// All requests of a connection but the first.
    fn reused(&self, door: &str) -> f64 {
        self.requests(door) - self.total(door, "used")
    }
}

/// The origin's words for the ends of connections.
const ENDS: [&str; 6] = ["idle", "close", "reset", "cut", "given_up", "client"];

/// What the client calls such an end.
fn close_reason(door: &str, end: &str) -> &'static str {
    match (door, end) {
        ("h2", "idle") => "goaway",
        (_, "idle" | "cut") => "peer_closed",
        (_, "close") => "connection_close",
        (_, "reset") => "io_error",
        (_, "given_up") => "canceled",
        _ => "pool_closed",
    }
}

/// Number by number.
fn difference(after: &Value, before: &Value) -> Value {
    match after {
        Value::Object(fields) => {
            fields.iter().map(|(key, after)| (key.clone(), difference(after, &before[key]))).collect()
        }
        number => (number.as_u64().unwrap_or(0) - before.as_u64().unwrap_or(0)).into(),
    }
}

impl Series {
    /// What a run's process counts, by what the origin saw of it.
    fn of(demo: &Demo, run: &Run) -> Self {
        let mut series = Self::default();
        let method = if run.shape.body.is_some() { "POST" } else { "GET" };
        for door in ["h1", "h2"] {
            series.add_connections(demo, run, door);
            series.add_answers(demo, run, door, method);
        }
        // One URL each, once a round. Where a door was opened, the origin saw it.
        let rounds = f64::from(run.shape.rounds);
        for (door, error, phase) in [
            ("stranger", "certificate_untrusted", "tls"),
            ("mute", "timeout", "tls"),
            ("closed", "connection_refused", "connect"),
            ("nowhere", "host_not_found", "dns"),
        ] {
            if phase == "tls" {
                assert_eq!(run.number(door, "/failed_handshakes"), rounds, "{door}");
                assert_eq!(run.number(door, "/accepted"), rounds, "{door}");
            }
            let host = demo.host(door);
            series.add("not acquired", [&host, error], rounds);
            series.add("attempts", [&host, method, "", error, phase], rounds);
            match phase {
                "tls" => series.add("failed handshakes", [&host, error], rounds),
                "connect" => series.add("failed connects", [&host, error], rounds * demo.addresses()),
                _ => series.add("failed lookups", ["nowhere.invalid", error], rounds),
            }
        }
        series
    }

    fn add_connections(&mut self, demo: &Demo, run: &Run, door: &str) {
        let host = &*demo.address(door);
        self.add("acquired", [host, "true"], run.reused(door));
        self.add("acquired", [host, "false"], run.total(door, "used"));
        // One at a time: whoever finds a connection finds it idle.
        self.add("idle", [host, "reused"], run.reused(door));
        let idle_ends = run.ended(door, "idle", "connections") + run.ended(door, "client", "connections");
        self.add("idle", [host, "closed"], idle_ends);
        for end in ENDS {
            let reason = close_reason(door, end);
            let connections = run.ended(door, end, "connections");
            self.add("closed", [host, reason], connections);
            // A connection without a head is one all the same: its series is there, at zero.
            self.add_even_zero("heads", [host, reason], run.ended(door, end, "heads"), connections > 0.0);
        }
    }

    fn add_answers(&mut self, demo: &Demo, run: &Run, door: &str, method: &str) {
        let host = &*demo.address(door);
        self.add("received", [host, method], run.number(door, "/sent"));
        self.add("sent", [host, method], run.number(door, "/received"));
        let answers = run.counts[door]["answers"].as_object().expect("answers").values();
        for (how, count) in answers.filter_map(Value::as_object).flatten() {
            let (status, error, phase) = match (&**how, door) {
                ("reset", "h1") => ("", "connection_reset", "response-wait"),
                ("reset", _) => ("", "http2_stream_reset", "response-wait"),
                ("cut", "h1") => ("200", "body_incomplete", "response-read"),
                ("cut", _) => ("200", "http2_stream_reset", "response-read"),
                ("never", _) => ("", "timeout", "response-wait"),
                (status, _) if status < "400" => (status, "", ""),
                (status, _) => (status, status, ""),
            };
            self.add("attempts", [host, method, status, error, phase], count.as_f64().expect("a count"));
        }
    }

    /// Nothing makes no series.
    fn add<const N: usize>(&mut self, metric: &'static str, labels: [&str; N], value: f64) {
        self.add_even_zero(metric, labels, value, value > 0.0);
    }

    fn add_even_zero<const N: usize>(&mut self, metric: &'static str, labels: [&str; N], value: f64, there: bool) {
        if !there {
            return;
        }
        *self.0.entry((metric, labels.map(str::to_owned).to_vec())).or_default() += value;
    }

    /// Goes on to what the next run's process says, and tells what each series grew by. One that falls has begun again at
    /// zero; one that was not there yet begins where it is.
    fn step(&mut self, next: Self) -> Self {
        let mut grown = Self::default();
        for (series, value) in next.0 {
            let step = match self.0.get(&series) {
                Some(before) if value >= *before => value - before,
                Some(_) => value,
                None => 0.0,
            };
            grown.0.insert(series.clone(), step);
            self.0.insert(series, value);
        }
        grown
    }

    /// One metric's series, added up by what they are called.
    fn by(&self, metric: &str, legend: impl Fn(&[String]) -> Option<String>) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for ((_, labels), value) in self.0.iter().filter(|((name, _), _)| *name == metric) {
            if let Some(legend) = legend(labels) {
                *sums.entry(legend).or_default() += value;
            }
        }
        sums
    }
}

#[allow(clippy::disallowed_methods, reason = "scrapes have the wall's time")]
/// Waits for a scrape that began after this moment, and says when it was.
async fn scraped(prometheus: &Prometheus) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let samples = prometheus.until("timestamp(up)", |samples| samples.iter().any(|sample| sample.value > now)).await;
    samples[0].value
}

/// Gauges show a moment: the load is held in it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger, prometheus and the demo's origin: .ci/run full"]
async fn what_waits_and_what_is_open_is_on_the_panels_while_it_is() {
    let jaeger = Jaeger::start().await;
    let prometheus = Prometheus::start(&jaeger).await;
    let demo = Demo::start().await;
    let mut command = Command::new(program("httptrace"));
    let urls =
        [("h1", 3), ("mute", 2)].map(|(door, times)| vec![format!("https://{}/never", demo.address(door)); times]);
    command.args(["-s", "-c", "5", "--connect-timeout", "60", "--cacert"]).arg(demo.folder.join("ca.pem"));
    command.args(urls.concat()).envs(load_environment(&jaeger.otlp(Protocol::HttpProtobuf)));
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "200").stdout(Stdio::null());
    let _load = Process::start(command, &demo.folder, "held.log");
    let (h1, mute) = (demo.address("h1"), demo.address("mute"));
    let line = |name: &str, value: f64| (name.to_owned(), value);
    let held = [
        ("Pending requests", vec![line(&h1, 0.0), line(&mute, 2.0)]),
        ("Open connections", vec![line("active", 3.0), line("idle", 0.0)]),
        ("Requests under way", vec![line(&h1, 3.0), line(&mute, 2.0)]),
    ];
    let panels = panels();
    for (title, wanted) in held {
        let panel = panels.iter().find(|panel| panel.title == title).expect("the panel");
        let wanted = Expected::Values(wanted.into_iter().collect());
        let mut last = Vec::new();
        for _ in 0..20 {
            let to = scraped(&prometheus).await;
            let window = Window { from: to - 1.0, to };
            last = panel.targets[0].values(&prometheus, window).await;
            if wanted.compare(&last, window).is_ok() {
                break;
            }
        }
        assert!(wanted.compare(&last, Window { from: 0.0, to: 1.0 }).is_ok(), "{title}: {last:?}, not {wanted:?}");
    }
}
