//! Checks that were taken out: for each line of `list.rs`, the test that fails without it.
//!
//! All of them are built at once, into a copy of the crate below `target/`, each behind a switch: `MUTANT=7` turns number 7
//! on. So hundreds cost one build and a moment each. `cargo test` checks that the list is about the code as it is;
//! `.ci/run full` builds the copy and looks whether every mutant is caught:
//!
//! ```console
//! $ cargo test --test mutants -- --ignored                   # all of them
//! $ MUTANTS=retry cargo test --test mutants -- --ignored     # whose line, change or test has that in it
//! ```

mod list;
mod run;

use std::{collections::BTreeMap, fs, path::Path};

/// One check, and what stands there without it.
pub(crate) struct Mutant {
    pub(crate) file: &'static str,
    /// A piece of the file that is there once; the expression or statement to change is between `«` and `»`.
    pub(crate) line: &'static str,
    pub(crate) without: &'static str,
    /// `lib::path::of::the::test`, `it::…`, or `hostile: ` and the name of a case.
    pub(crate) fails: &'static str,
}

impl Mutant {
    /// The line as it is in the file, and where in it the change is.
    fn parts(&self) -> (String, std::ops::Range<usize>) {
        let (before, rest) = self.line.split_once('«').expect("a beginning");
        let (changed, after) = rest.split_once('»').expect("an end");
        (format!("{before}{changed}{after}"), before.len()..before.len() + changed.len())
    }

    fn name(&self, number: usize) -> String {
        format!("{number}: {} `{}` → `{}` ({})", self.file, self.line, self.without, self.fails)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources with all changes in them, each behind its number.
fn mutated() -> BTreeMap<&'static str, String> {
    let mut places = BTreeMap::<_, Vec<(usize, &Mutant)>>::new();
    for (number, mutant) in (1..).zip(list::MUTANTS) {
        let source = fs::read_to_string(root().join(mutant.file)).expect("a source");
        let (line, within) = mutant.parts();
        let [at] = source.match_indices(&line).map(|(at, _)| at).collect::<Vec<_>>()[..] else {
            panic!("not there once: {}", mutant.name(number));
        };
        let place = (mutant.file, at + within.start, at + within.end);
        places.entry(place).or_default().push((number, mutant));
    }
    let mut sources = BTreeMap::new();
    // From behind, so that what is before stays where it is.
    for ((file, start, end), mutants) in places.into_iter().rev() {
        let source: &mut String =
            sources.entry(file).or_insert_with(|| fs::read_to_string(root().join(file)).expect("a source"));
        let original = source[start..end].to_owned();
        let switched = mutants.iter().rev().fold(format!("{{ {original} }}"), |rest, (number, mutant)| {
            format!("if crate::mutant({number}) {{ {} }} else {rest}", mutant.without)
        });
        let statement = original.ends_with(';');
        source.replace_range(start..end, &if statement { switched } else { format!("({switched})") });
    }
    sources
}

#[test]
fn every_mutant_is_of_a_line_that_is_there() {
    let sources = mutated();
    let switches = sources.values().map(|source| source.matches("if crate::mutant(").count()).sum::<usize>();
    assert_eq!(switches, list::MUTANTS.len());
    assert!(switches > 60, "{switches}");
}

#[test]
fn every_mutant_has_a_test_that_is_there() {
    for (number, mutant) in (1..).zip(list::MUTANTS) {
        let (word, file) = match mutant.fails.split_once(": ") {
            Some((_, case)) => (format!("| {case} |"), "tests/hostile/README.md".into()),
            None => {
                let mut path: Vec<_> = mutant.fails.split("::").collect();
                let name = path.pop().expect("a name");
                (format!("fn {name}("), run::file_of(&path))
            }
        };
        let text = fs::read_to_string(root().join(&file)).unwrap_or_default();
        assert!(text.contains(&word), "no test in {file}: {}", mutant.name(number));
    }
}

#[test]
#[ignore = "builds a copy of the crate: .ci/run full"]
fn no_mutant_survives() {
    let survivors = run::survivors(&mutated(), list::MUTANTS);
    assert!(survivors.is_empty(), "{} survive:\n{}", survivors.len(), survivors.join("\n"));
}
