//! `docs/guarantees.md` names tests and scripts that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn sources_below(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources_below(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_and_script_that_the_guarantees_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        sources_below(&root.join(folder), &mut sources);
    }
    // Names of tests are sentences.
    let tests = named.iter().filter(|name| name.matches('_').count() >= 5);
    let mut count = 0;
    for test in tests {
        assert!(sources.contains(&format!("fn {test}(")), "no test is called {test}");
        count += 1;
    }
    assert!(count >= 25, "only {count} tests were found: the reader has gone blind");
    for script in named.iter().filter_map(|name| name.split(' ').next()) {
        if script.ends_with(".py") {
            assert!(root.join(script).is_file(), "{script} is not there");
        }
    }
}
