//! What holds of texts: nothing secret is in a URL or a header field that is shown, a date is the moment it was made
//! of, and what a server says of its time is bounded.

use http::{HeaderMap, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::{date::date_time, facts::ServerTiming, redact::Rules};

/// Query keys whose values are secret, beside the one that an application adds.
const KEYS: [&str; 8] = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
    "my key",
];

fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.add(["my key".to_owned()]);
    rules
}

/// Of a URL its secrets are not shown, and all else is; no field of a header shows what was planted in it.
pub(super) fn redaction(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // What a request can be made of.
    if let Ok(uri) = text.parse::<Uri>()
        && uri.scheme().is_some()
        && uri.authority().is_some()
    {
        url(&uri);
    }
    let (name, value) = data.split_at(data.len().min(1));
    planted(name.first().copied().unwrap_or_default(), &String::from_utf8_lossy(value));
}

fn url(uri: &Uri) {
    let shown = rules().url(uri);
    let Ok(again) = shown.parse::<Uri>() else {
        // `http` takes a bracket before the `@`, which no host has; what stands there is hidden all the same.
        let before = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
        assert!(before.is_some_and(|(before, _)| before.contains('[')), "what is shown of a URL is one: {shown}");
        return assert!(shown.contains("://REDACTED:REDACTED@"), "{shown}");
    };
    assert_eq!(*shown, *rules().url(&again), "a second time nothing is left to hide");
    assert_eq!(uri.path(), again.path());
    assert_eq!(uri.host().unwrap_or_default(), again.host().unwrap_or_default());
    assert_eq!(uri.port_u16(), again.port_u16());
    let authority = again.authority().map_or("", |authority| authority.as_str());
    let credentials = authority.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    assert!(matches!(credentials, "" | "REDACTED:REDACTED"), "{shown}");
    let pairs = |uri: &Uri| uri.query().map(|query| query.split('&').map(str::to_owned).collect::<Vec<_>>());
    let (given, shown) = (pairs(uri).unwrap_or_default(), pairs(&again).unwrap_or_default());
    assert_eq!(given.len(), shown.len());
    for (given, shown) in given.iter().zip(&shown) {
        // To some servers `;` ends a pair as well: behind the first secret nothing is shown up to the next `&`.
        let mut whole = true;
        for (part, given) in shown.split(';').zip(given.split(';')) {
            let secret = given.split_once('=').is_some_and(|(key, _)| KEYS.contains(&&*decoded(key)));
            if secret {
                assert_eq!(part.split_once('=').map(|(_, value)| value), Some("REDACTED"), "{given}");
                whole = false;
                break;
            }
            assert_eq!(part, given);
        }
        assert!(!whole || given == shown, "{given} is no secret");
    }
}

fn decoded(key: &str) -> String {
    percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// What is planted: no part of it may be seen.
const SECRET: &str = "s3cr3t";

/// A URL with secrets in every place, behind whatever stands in the field before it.
fn planted(name: u8, before: &str) {
    if before.contains(SECRET) {
        return;
    }
    let field = ["location", "link", "refresh", "report-to", "via", ":path", "set-cookie", "x-api-key"];
    let field = field[usize::from(name) % field.len()];
    let url = format!("https://u:{SECRET}@a.test/?s%69g={SECRET}&my+key={SECRET};{SECRET}#{SECRET}");
    // A field that is one URL is taken as such; in a text, URLs stand between spaces, quotes or brackets.
    let values =
        [url.clone(), format!("{before} {url}"), format!("{before}<{url}>; rel=next"), format!("\"{url}\"{before}")];
    let whole = matches!(field, "location" | "refresh" | ":path");
    for value in values.iter().take(if whole { 1 } else { values.len() }) {
        let shown = rules().field(field, value.as_bytes());
        assert!(!shown.contains(SECRET), "{field}: {shown}");
    }
    rules().field(field, before.as_bytes());
}

/// A server's account of its time: names are short tokens, descriptions come where they are wanted, and two fields say what
/// one list of both says.
pub(super) fn server_timing(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (first, second) = (&data[..cut], data.get(cut + 1..).unwrap_or_default());
    let read = |values: &[&[u8]], descriptions: bool| {
        let mut fields = HeaderMap::new();
        for value in values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
            fields.append("server-timing", value);
        }
        let mut timing = ServerTiming::default();
        timing.add(&fields, descriptions);
        timing
    };
    let told = read(&[first, second], true);
    assert!(told.metrics.len() <= 32);
    for metric in &told.metrics {
        let token = |c: char| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(c);
        assert!((1..=64).contains(&metric.name.len()) && metric.name.chars().all(token), "{metric:?}");
        let description = metric.description.as_deref().unwrap_or_default();
        assert!(description.chars().count() <= 128 && !description.chars().any(char::is_control), "{metric:?}");
    }
    let mut without = told.clone();
    without.metrics.iter_mut().for_each(|metric| metric.description = None);
    assert_eq!(read(&[first, second], false), without, "descriptions are all that is left out");
    // A quote that is not closed takes what follows with it.
    let whole = HeaderValue::from_bytes(first).is_ok() && HeaderValue::from_bytes(second).is_ok();
    if whole && !first.contains(&b'"') {
        assert_eq!(read(&[&[first, b",", second].concat()], true), told, "one list, and two");
    }
}

/// A date says when it was, in the order of time.
pub(super) fn date(data: &[u8]) {
    let seconds = data.iter().take(8).fold(0, |all: i64, byte| all << 8 | i64::from(*byte));
    // From the year 0 to 9999: what a date of four digits has.
    let seconds = seconds.rem_euclid(315_569_520_000) - 62_167_219_200;
    let text = date_time(seconds);
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("digits");
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let days_of = |year: i64, month: i64| match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    assert!((1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day), "{text}");
    // Year by year and month by month, as a calendar is made.
    let before = (0..year).map(|year| 337 + days_of(year, 2)).sum::<i64>();
    let days = before + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1;
    let time = number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    assert_eq!(days * 86_400 + time - 62_167_219_200, seconds, "{text}");
    assert!(text < date_time(seconds + 1) || text.starts_with("9999"));
}
