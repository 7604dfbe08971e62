//! What must hold of every parser of ours, whatever it is given. `fuzz/` runs these by the million, `cargo test` with the
//! kept corpus.
//!
//! In: bytes. Out: a panic where something does not hold. The checks stand beside what they check, since that is private;
//! here they have their names, which are also those of the folders in `tests/corpus/`.

mod text;

/// Checks one input.
pub type Check = fn(&[u8]);

/// Every check, by its name.
pub const TARGETS: [(&str, Check); 11] = [
    ("answers", crate::otlp::fuzzing::answers),
    ("blocks", crate::exchange::fuzzing::blocks),
    ("date", text::date),
    ("encode", crate::otlp::fuzzing::encode),
    ("environment", crate::otlp::fuzzing::environment),
    ("frames", crate::exchange::fuzzing::frames),
    ("heads", crate::exchange::fuzzing::heads),
    ("propagation", crate::views::fuzzing::propagation),
    ("redaction", text::redaction),
    ("server_timing", text::server_timing),
    ("wire", crate::exchange::fuzzing::wire),
];

/// Runs the check of this name.
///
/// # Panics
///
/// Where something does not hold, and where there is no such check.
pub fn check(name: &str, data: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(known, _)| *known == name).expect("a check of this name");
    check(data);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn what_must_hold_holds_of_the_kept_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        for (name, check) in TARGETS {
            let files: Vec<_> = fs::read_dir(corpus.join(name)).expect(name).collect();
            assert!(files.len() >= 5, "{name} has {} files", files.len());
            for file in files {
                let path = file.expect("an entry").path();
                // The name of a file that fails is in the output.
                println!("{}", path.display());
                check(&fs::read(path).expect("a file"));
            }
        }
    }

    #[test]
    fn every_folder_of_the_corpus_has_its_check() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let folders = fs::read_dir(corpus).expect("the corpus").map(|entry| entry.expect("an entry").file_name());
        let folders: BTreeSet<_> = folders.map(|name| name.into_string().expect("a name")).collect();
        // The command's own checks stand with it.
        let known = TARGETS.iter().map(|(name, _)| (*name).to_owned()).chain(["url".to_owned()]).collect();
        assert_eq!(folders, known);
    }
}
