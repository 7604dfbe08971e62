//! `Server-Timing` (W3C, Server Timing §4): what a server says of the time that an answer took it.
//!
//! In: fields of a header or of trailers. Out: at most 32 metrics. It is a stranger's text: what does not follow the grammar
//! is left out, names are tokens (no blanks, no controls) of at most 64 bytes, and a duration is a number that makes sense.

use std::time::Duration;

use http::HeaderMap;

/// A server's own account of the time that it took.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ServerTiming {
    /// Its metrics, in their order; those of the trailers last.
    pub metrics: Vec<ServerMetric>,
    /// Metrics that were left out: too many, or with a name that is too long.
    pub dropped: u32,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServerMetric {
    /// Its name: a token (RFC 9110 §5.6.2).
    pub name: String,
    /// `dur`; absent if there is none, or none that makes sense.
    pub duration: Option<Duration>,
    /// `desc`, at most 128 characters of it; absent if there is none, and unless
    /// [`server_timing_descriptions`](crate::ClientBuilder::server_timing_descriptions) is on.
    pub description: Option<String>,
}

impl ServerTiming {
    /// The time that the server took: of the metric named `total`, if there is one with a duration, else of the longest.
    /// Metrics may overlap and contain each other, so that a sum may be more than there was. Absent if none has a duration.
    #[must_use]
    pub fn total(&self) -> Option<Duration> {
        let total = self.metrics.iter().filter(|metric| metric.name.eq_ignore_ascii_case("total"));
        total.filter_map(|metric| metric.duration).next().or(self.metrics.iter().filter_map(|m| m.duration).max())
    }

    /// Takes what is in these fields.
    pub(crate) fn add(&mut self, fields: &HeaderMap, descriptions: bool) {
        for value in fields.get_all("server-timing") {
            let mut rest = Scanner(value.as_bytes());
            while let Some(metric) = rest.metric() {
                if self.metrics.len() == MOST || metric.name.len() > MAX_NAME {
                    self.dropped = self.dropped.saturating_add(1);
                    continue;
                }
                let description = metric.description.filter(|_| descriptions);
                self.metrics.push(ServerMetric { description, ..metric });
            }
        }
    }
}

/// Most metrics of one response: a page with more is no waterfall any more.
const MOST: usize = 32;
/// Bytes of a name.
const MAX_NAME: usize = 64;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 128;

fn shortened(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(MAX_DESCRIPTION).collect()
}

/// What is left of a field's value.
struct Scanner<'a>(&'a [u8]);

impl<'a> Scanner<'a> {
    /// The next metric, with its `dur` and its `desc`.
    fn metric(&mut self) -> Option<ServerMetric> {
        loop {
            self.blanks();
            match self.0 {
                [] => return None,
                [b',', rest @ ..] => self.0 = rest,
                _ => {
                    let name = self.token();
                    if name.is_empty() {
                        self.skip(b",");
                        continue;
                    }
                    let (mut duration, mut description) = (None, None);
                    while let Some((name, value)) = self.parameter() {
                        // Of one that is there twice, the first counts (§4).
                        if name.eq_ignore_ascii_case(b"dur") {
                            duration.get_or_insert(value);
                        } else if name.eq_ignore_ascii_case(b"desc") {
                            description.get_or_insert(value);
                        }
                    }
                    return Some(ServerMetric {
                        // A token is ASCII.
                        name: String::from_utf8_lossy(name).into_owned(),
                        duration: duration.and_then(|value| milliseconds(&value)),
                        description: description.map(|text| shortened(&text)),
                    });
                }
            }
        }
    }

    /// The next parameter of this metric. One without a value, and what stands behind one, is passed over.
    fn parameter(&mut self) -> Option<(&'a [u8], Vec<u8>)> {
        loop {
            self.skip(b";,");
            let [b';', rest @ ..] = self.0 else { return None };
            self.0 = rest;
            self.blanks();
            let name = self.token();
            self.blanks();
            if let ([b'=', rest @ ..], false) = (self.0, name.is_empty()) {
                self.0 = rest;
                self.blanks();
                return Some((name, self.value()));
            }
        }
    }

    /// A token, or a quoted string without its quotes.
    fn value(&mut self) -> Vec<u8> {
        let [b'"', rest @ ..] = self.0 else { return self.token().to_vec() };
        let mut text = Vec::new();
        let mut bytes = rest.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => text.extend(bytes.next()),
                byte => text.push(*byte),
            }
        }
        self.0 = bytes.as_slice();
        text
    }

    fn token(&mut self) -> &'a [u8] {
        let length = self.0.iter().take_while(|byte| is_token(**byte)).count();
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        token
    }

    fn blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Up to one of these, outside of quotes.
    fn skip(&mut self, ends: &[u8]) {
        while let [first, rest @ ..] = self.0 {
            if ends.contains(first) {
                break;
            }
            if *first == b'"' {
                self.value();
            } else {
                self.0 = rest;
            }
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A number of milliseconds up to a day: what is longer was no answer to a request.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    const DAY: f64 = 24.0 * 60.0 * 60.0 * 1e3;
    let number: f64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    // Not a number is in no range.
    (0.0..=DAY).contains(&number).then(|| Duration::from_secs_f64(number / 1e3))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn timing(values: &[&[u8]]) -> ServerTiming {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append("server-timing", HeaderValue::from_bytes(value).expect("no controls"));
        }
        let mut timing = ServerTiming::default();
        timing.add(&fields, true);
        timing
    }

    /// As `name`, `name=ms`, with `:description` behind it.
    fn told(values: &[&str]) -> String {
        let bytes: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        let one = |metric: &ServerMetric| {
            let dur = metric.duration.map_or_else(String::new, |dur| format!("={}", dur.as_nanos() as f64 / 1e6));
            let desc = metric.description.as_ref().map_or_else(String::new, |desc| format!(":{desc}"));
            format!("{}{dur}{desc}", metric.name)
        };
        timing(&bytes).metrics.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_grammar_is_that_of_the_recommendation() {
        for (value, expected) in [
            ("miss, db;dur=53, app;dur=47.2", "miss db=53 app=47.2"),
            ("cache;desc=\"Cache Read\";dur=23.2", "cache=23.2:Cache Read"),
            ("a;desc=\"x, y; \\\"z\\\"\" , b", "a:x, y; \"z\" b"),
            (" , ,a ; DUR = 1 ;Desc=t,", "a=1:t"),
            ("a;dur=1;dur=2;desc=x;desc=y", "a=1:x"),
            ("a;other=1;dur=2", "a=2"),
            ("a;dur;desc=x", "a:x"),
            ("a;dur=", "a"),
            ("a;dur=\"12\"", "a=12"),
            ("a;desc=\"open, b;dur=1", "a:open, b;dur=1"),
            ("a;dur=1 rest;desc=x, b", "a=1:x b"),
            ("=1;dur=2, b", "b"),
            ("\"a\";dur=2, b", "b"),
            ("", ""),
            (",;,=,", ""),
        ] {
            assert_eq!(told(&[value]), expected, "{value}");
        }
        assert_eq!(told(&["a;dur=1", "b;dur=2"]), "a=1 b=2");
    }

    #[test]
    fn a_duration_that_makes_no_sense_is_none() {
        for value in ["-1", "nan", "inf", "1e300", "x", "86400001", "0x10"] {
            assert_eq!(timing(&[format!("a;dur={value}").as_bytes()]).metrics[0].duration, None, "{value}");
        }
        assert_eq!(told(&["a;dur=0, b;dur=1e2, c;dur=.5"]), "a=0 b=100 c=0.5");
    }

    #[test]
    fn too_much_is_counted_and_not_kept() {
        let many: Vec<_> = (0..40).map(|number| format!("m{number}")).collect();
        let kept = timing(&[many.join(",").as_bytes(), "n".repeat(65).as_bytes()]);
        assert_eq!((kept.metrics.len(), kept.dropped), (32, 9));
        let long = timing(&[format!("a;desc=\"{}\"", "ü".repeat(500)).as_bytes()]);
        assert_eq!(long.metrics[0].description.as_ref().map(|text| text.chars().count()), Some(128));
        let mut fields = HeaderMap::new();
        fields.append("server-timing", HeaderValue::from_static("a;desc=secret"));
        let mut bare = ServerTiming::default();
        bare.add(&fields, false);
        assert_eq!(bare.metrics[0].description, None);
    }

    #[test]
    fn the_total_is_what_is_called_so_or_else_the_longest() {
        let total = |value: &str| timing(&[value.as_bytes()]).total().map(|total| total.as_millis());
        assert_eq!(total("db;dur=53, app;dur=47"), Some(53));
        assert_eq!(total("db;dur=53, Total;dur=40"), Some(40));
        assert_eq!(total("total, db;dur=53"), Some(53));
        assert_eq!(total("miss"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_give_tokens_and_numbers(bytes in prop::collection::vec(32_u8..=255, 0..200)) {
            let bytes: Vec<_> = bytes.into_iter().filter(|byte| *byte != 127).collect();
            for metric in timing(&[&bytes]).metrics {
                prop_assert!(!metric.name.is_empty() && metric.name.bytes().all(is_token), "{metric:?}");
            }
        }
    }
}
