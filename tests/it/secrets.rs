//! Secrets are planted in everything that a request, its answer and its telemetry are made of, and looked for in everything
//! that a process ever says: its spans and metrics as a collector gets them, logs, errors, `Debug`, charts, both outputs.
//!
//! Each run is a process of its own (`secrets/library.rs`, `secrets/command.rs`), so that nothing it says is missed.

mod command;
mod library;

use base64::{Engine, prelude::BASE64_STANDARD};

/// Part of every secret that is planted, and of nothing else.
const WORD: &str = "geheim";

/// A URL's credentials, and as `Basic` carries them.
const USERINFO: &str = "geheim-user:geheim-pass";

/// A query with secrets, as plain as can be and as well hidden as a server would still find them.
const QUERY: &str = "shown=1&sig=geheim&%73ig=geheim&X-Amz-Signature=geheim;geheim&AWSAccessKeyId=geheim&x=1;sig=geheim&\
                     X-Goog-Signature=geheim%20geheim&X-Amz-Security-Token=a=geheim&X-Amz-Credential=geheim/aws&Signatur%65=geheim";

/// What a server may send that is the user's secret, or leads to one.
const ANSWER: &str = "set-cookie: id=geheim\r\nwww-authenticate: Basic realm=geheim\r\n\
                      location: http://geheim:geheim@a.test/?sig=geheim#geheim\r\n\
                      link: <http://geheim:geheim@a.test/?%73ig=geheim>; rel=next\r\n\
                      refresh: 0; url=http://a.test/?sig=geheim\r\nproxy-authenticate: Basic realm=geheim\r\n\
                      authentication-info: nextnonce=geheim\r\n";

/// Request fields that are secret, or hold what is.
const FIELDS: [(&str, &str); 6] = [
    ("authorization", "Bearer geheim"),
    ("proxy-authorization", "Basic geheim"),
    ("cookie", "id=geheim"),
    ("x-api-key", "geheim"),
    ("referer", "http://geheim:geheim@a.test/?Signature=geheim#geheim"),
    ("content-location", "//geheim@a.test/?sig=geheim"),
];

/// The places at which something secret is said.
fn said(text: &str) -> Vec<String> {
    let around = |at: usize| {
        let bytes = &text.as_bytes()[at.saturating_sub(120)..text.len().min(at + 60)];
        String::from_utf8_lossy(bytes).into_owned()
    };
    let text_lower = text.to_ascii_lowercase();
    let mut forms = vec![WORD.to_owned()];
    // A `Debug` of bytes, in decimal and in hexadecimal.
    let bytes =
        |form: fn(&u8) -> String, between: &str| WORD.as_bytes().iter().map(form).collect::<Vec<_>>().join(between);
    forms.extend([bytes(u8::to_string, ", "), bytes(|byte| format!("{byte:02x}"), "")]);
    // Base64 of a text that has it at any place: what does not depend on its neighbours.
    for before in ["", ":", "::"] {
        let form = BASE64_STANDARD.encode(format!("{before}{WORD}..."));
        forms.push(form[before.len() * 4 / 3 + usize::from(!before.is_empty())..][..6].to_lowercase());
    }
    forms.iter().flat_map(|form| text_lower.match_indices(form)).map(|(at, _)| around(at)).collect()
}

/// Fails with every place at which a secret is said.
#[track_caller]
fn assert_says_nothing(what: &str, text: &str) {
    let said = said(text);
    assert!(said.is_empty(), "{what} says {} secrets:\n{}", said.len(), said.join("\n---\n"));
}

#[test]
fn a_secret_is_found_in_every_form() {
    for userinfo in [USERINFO, ":geheim-pass", "x:geheim", "xy:geheim"] {
        let basic = BASE64_STANDARD.encode(userinfo);
        for text in [userinfo, &basic, &format!("{:?}", userinfo.as_bytes()), "GEHEIM", "a 67656865696d b"] {
            assert!(!said(text).is_empty(), "{text}");
        }
    }
    assert!(said("nothing of the kind, dGVzdA== [103, 101]").is_empty());
}
