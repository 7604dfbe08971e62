//! What holds of the command's URLs, whatever is typed or sent: what is taken is a URL of HTTP that says the same when it is
//! read again, a refusal tells no password, and a redirect leaves the credentials with their own origin.
//!
//! In: bytes of a fuzzer, or of the kept corpus: what is typed, and behind a line end where a redirect leads to. Out: a
//! panic where it does not hold.

use http::{Uri, uri::Authority};

use crate::{
    exit::Failure,
    url::{join, origin, parse},
};

/// No part of it may be told.
const PLANTED: &str = "s3cr3t";

pub(crate) fn url(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let (typed, location) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let typed = String::from_utf8_lossy(typed);
    let base = parse(&typed);
    taken_or_refused(&base);
    // The same with a password, wherever a `~` puts it; unless the fuzzer has hit on it by itself.
    if let (false, Err(failure)) = (typed.contains(PLANTED), parse(&typed.replace('~', PLANTED))) {
        let scheme = typed.split("://").next().unwrap_or_default().contains('~');
        assert!(scheme || !failure.message.contains(PLANTED), "{}", failure.message);
    }
    if let Ok(base) = base {
        redirect(&base, location);
    }
}

fn taken_or_refused(read: &Result<Uri, Failure>) {
    match read {
        Ok(uri) => {
            assert!(matches!(uri.scheme_str(), Some("http" | "https")), "{uri}");
            assert!(uri.host().is_some_and(|host| !host.is_empty()), "{uri}");
            assert!(uri.path().starts_with('/'), "{uri}");
            let again = parse(&uri.to_string()).expect("what was taken is taken again");
            assert_eq!(uri.to_string(), again.to_string());
        }
        Err(failure) => assert!(matches!(failure.code, 1 | 3), "{}", failure.message),
    }
}

fn redirect(base: &Uri, location: &[u8]) {
    let target = join(base, location);
    taken_or_refused(&target);
    let Ok(target) = target else { return };
    let credentials = |uri: &Uri| {
        let authority = uri.authority().map_or("", Authority::as_str);
        authority.rsplit_once('@').map(|(credentials, _)| credentials.to_owned())
    };
    let own = String::from_utf8_lossy(location).contains('@');
    if let Some(kept) = credentials(&target).filter(|_| !own) {
        assert_eq!(Some(kept), credentials(base));
        assert_eq!(origin(base), origin(&target), "credentials went elsewhere");
    }
    assert!(!target.path().split('/').any(|segment| matches!(segment, "." | "..")), "{target}");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn what_must_hold_holds_of_the_kept_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/url");
        let files: Vec<_> = fs::read_dir(corpus).expect("the corpus").collect();
        assert!(files.len() >= 5);
        for file in files {
            let path = file.expect("an entry").path();
            println!("{}", path.display());
            super::url(&fs::read(path).expect("a file"));
        }
    }
}
