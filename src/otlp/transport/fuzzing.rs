//! What holds of a collector's answers, whatever they say: a wish to wait is one, what is quoted of them is short, one line,
//! and no credential. In: bytes of a fuzzer, or of the kept corpus. Out: a panic where it does not hold.

use super::*;

const PLANTED: &str = "s3cr3t-token";

pub(crate) fn answers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    words(&text);
    status(data);
    if let Ok(value) = HeaderValue::from_bytes(data) {
        retry_after(&value);
        grpc(&value);
    }
}

fn words(text: &str) {
    let secrets = [PLANTED.to_owned()];
    for said in [text.to_owned(), text.replace('~', PLANTED)] {
        let quoted = quoted(&said, &secrets);
        assert!(!quoted.contains(PLANTED) && !quoted.chars().any(char::is_control), "{quoted:?}");
        assert!(quoted.chars().count() <= 301, "{} characters", quoted.chars().count());
    }
}

fn status(data: &[u8]) {
    let [a, b, body @ ..] = data else { return };
    let code = 100 + u16::from_be_bytes([*a, *b]) % 900;
    let failure = Failure::status(code, body);
    let passing = [429, 502, 503, 504].contains(&code);
    assert_eq!(failure.may_pass(), passing, "{code}");
    let grpc = Failure::grpc(u32::from(*a), &String::from_utf8_lossy(body));
    let again = [1, 4, 10, 14, 15].contains(a);
    assert!(!again || grpc.may_pass(), "OTLP has {a} asked again");
    let endpoint = Uri::from_static("http://u:s3cr3t-token@a.test/");
    for failure in [failure, grpc] {
        let told = failure.told(&endpoint, Protocol::Grpc);
        assert!(!told.contains(PLANTED) && told.contains("a.test"), "{told}");
    }
}

/// Digits are seconds, all else is no wish that is heeded.
fn retry_after(value: &HeaderValue) {
    let read = seconds(value);
    let text = value.to_str().unwrap_or_default().trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    assert!(read.is_none() || number, "{value:?} is {read:?}");
    assert!(!number || digits.len() > 19 || read == digits.parse().ok().map(Duration::from_secs));
    // Whatever it is, the wait has an end.
    assert!(read.map_or(FIRST_PAUSE, |wish| wish.min(LONGEST_PAUSE)) <= LONGEST_PAUSE);
}

fn grpc(value: &HeaderValue) {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", value.clone());
    let ok = grpc_status(&fields).is_ok();
    assert_eq!(ok, value.to_str().ok().and_then(|text| text.parse::<u32>().ok()) == Some(0), "{value:?}");
    fields.insert("grpc-status", HeaderValue::from_static("3"));
    fields.insert("grpc-message", value.clone());
    assert!(grpc_status(&fields).is_err());
}
