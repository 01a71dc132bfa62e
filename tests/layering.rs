//! Every `crate::` path in `src/` against the table of `docs/architecture.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module, and the modules that it may name besides itself.
const TABLE: [(&str, &[&str]); 16] = [
    ("calibrate", &["eval", "pipeline", "output", "input", "llm", "quality", "domain"]),
    ("check", &["output", "domain"]),
    ("compact", &["output", "input", "domain"]),
    ("domain", &[]),
    ("cloud", &["domain"]),
    ("eval", &["pipeline", "output", "input", "llm", "quality", "domain"]),
    ("input", &["cloud", "domain"]),
    ("llm", &["domain"]),
    ("output", &["cloud", "domain"]),
    ("pipeline", &["input", "llm", "output", "quality", "domain"]),
    ("plot", &["domain"]),
    ("quality", &["domain"]),
    ("simulate", &["llm", "domain"]),
    ("summary", &["quality", "domain"]),
    ("verify", &["output", "input", "domain"]),
    (
        "cli",
        &[
            "domain",
            "input",
            "llm",
            "output",
            "pipeline",
            "simulate",
            "summary",
            "verify",
            "compact",
            "check",
            "plot",
            "quality",
            "eval",
            "calibrate",
        ],
    ),
];

/// `module` names `named` at `line` of `file`.
#[derive(Debug, PartialEq, Eq)]
struct Arrow {
    module: String,
    named: String,
    file: PathBuf,
    line: usize,
}

impl Arrow {
    fn is_allowed(&self) -> bool {
        self.module == self.named
            || TABLE.iter().any(|(module, named)| {
                *module == self.module && named.contains(&self.named.as_str())
            })
    }
}

#[test]
fn modules_name_only_what_the_table_allows() {
    let arrows = arrows_below(&source_folder());
    assert!(!arrows.is_empty(), "no path found: the reader has gone blind");
    let broken: Vec<String> = arrows
        .iter()
        .filter(|arrow| !arrow.is_allowed())
        .map(|arrow| {
            let Arrow { module, named, file, line } = arrow;
            format!("src/{}:{line}: `{module}` names `{named}`", file.display())
        })
        .collect();
    assert!(
        broken.is_empty(),
        "a new arrow between modules is drawn in docs/architecture.md first:\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_module_stands_in_the_table() {
    let modules: BTreeSet<String> = files_below(&source_folder())
        .iter()
        .map(|file| module_of(file))
        .filter(|module| !["lib", "main"].contains(&module.as_str()))
        .collect();
    let table: BTreeSet<String> = TABLE.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(modules, table);
}

#[test]
fn paths_are_found_in_every_spelling() {
    let source = "\
use crate::output::Store;
use crate::{domain::Row, llm::{batcher, governor}, Thing};
pub(crate) use crate::input;
use crate::{
    output::{journal::Entry, Claim},
    pipeline, // crate::cli in a remark is no path
};
fn f(x: crate::summary::Summary) -> Link { \"crate::simulate \\\" \" }
const R: &str = r#\"a \" quote, https://x, crate::simulate\"#; const Q: char = '\"';
/// See [`crate::cli`].
macro_rules! m { () => { $crate::pipeline::run() } }
use super::super::output::part;
";
    let file = Path::new("llm/batcher.rs");
    let found: Vec<(usize, String)> =
        arrows_in(source, file).into_iter().map(|arrow| (arrow.line, arrow.named)).collect();
    let expected = [
        (1, "output"),
        (2, "domain"),
        (2, "llm"),
        (2, "Thing"),
        (3, "input"),
        (4, "output"),
        (4, "pipeline"),
        (8, "summary"),
        (11, "pipeline"),
        (12, "output"),
    ];
    let expected = expected.map(|(line, named)| (line, named.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn a_forbidden_path_is_not_allowed() {
    let is_allowed = |source, file| arrows_in(source, Path::new(file))[0].is_allowed();
    assert!(!is_allowed("use crate::output::Store;", "input/mod.rs"));
    assert!(!is_allowed("use crate::llm::Governor;", "domain/row.rs"));
    assert!(!is_allowed("use super::cli::console;", "pipeline.rs"));
    assert!(is_allowed("use crate::llm::Governor;", "pipeline.rs"));
    assert!(is_allowed("use crate::llm::Governor;", "llm/provider/openai.rs"));
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn arrows_below(source: &Path) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for file in files_below(source) {
        if !["lib", "main"].contains(&module_of(&file).as_str()) {
            let text = fs::read_to_string(source.join(&file)).expect("a source file is UTF-8");
            arrows.extend(arrows_in(&text, &file));
        }
    }
    arrows
}

/// Every Rust file below `source`, relative to it, in order.
fn files_below(source: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source folder can be listed") {
            let path = entry.expect("the source folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(source).expect("below the source folder").to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The top-level module of a file, given relative to `src/`.
fn module_of(file: &Path) -> String {
    let first = file.iter().next().expect("a file has a name");
    Path::new(first).file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

/// The paths in `source` that name a top-level module of the crate.
fn arrows_in(source: &str, file: &Path) -> Vec<Arrow> {
    let module = module_of(file);
    let code = without_remarks_and_strings(source);
    let mut arrows = Vec::new();
    let roots = [("crate::".to_owned(), false), (super_path(file), true)];
    for (root, is_super) in roots {
        for (at, _) in code.match_indices(&root) {
            let before = code[..at].chars().next_back();
            let continues = |c: char| c.is_alphanumeric() || c == '_' || (is_super && c == ':');
            if before.is_some_and(continues) {
                continue;
            }
            let line = 1 + code[..at].matches('\n').count();
            let names = first_names(&code[at + root.len()..]);
            // In a module within the file `super` leads less far; what it names is then no module.
            let is_module = |named: &String| TABLE.iter().any(|(module, _)| module == named);
            for named in names.into_iter().filter(|named| !is_super || is_module(named)) {
                arrows.push(Arrow { module: module.clone(), named, file: file.to_owned(), line });
            }
        }
    }
    arrows.sort_by_key(|arrow| arrow.line);
    arrows
}

/// The `super::super::` that leads from `file` to the crate's root.
fn super_path(file: &Path) -> String {
    let is_folder_itself = file.file_name().is_some_and(|name| name == "mod.rs");
    "super::".repeat(file.iter().count() - usize::from(is_folder_itself))
}

/// The first segments of what follows a root: one name, or those of a brace's members.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> Option<String> {
        let name: String =
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    };
    let Some(members) = rest.trim_start().strip_prefix('{') else {
        return name(rest).into_iter().collect();
    };
    let mut depth = 0_usize;
    let mut start = 0;
    let mut names = Vec::new();
    for (at, char) in members.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                names.extend(name(&members[start..at]));
                start = at + 1;
            }
            '}' => {
                names.extend(name(&members[start..at]));
                break;
            }
            _ => {}
        }
    }
    names
}

/// `source` with comments and the insides of strings blanked, line ends kept.
fn without_remarks_and_strings(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(char) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with(r#"'"'"#) {
            3
        } else if rest.starts_with(r"'\") {
            // An escaped character: its quote is the second one after the backslash at the earliest.
            3 + rest[3..].find('\'').map_or(0, |end| end + 1)
        } else if char == '"' {
            1 + string_length(&rest[1..], raw_hashes(&code))
        } else {
            code.push(char);
            rest = &rest[char.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|char| *char == '\n'));
        rest = &rest[skipped..];
    }
    code
}

/// The hashes of a raw string whose opening quote follows `code`; `None` for a plain string.
fn raw_hashes(code: &str) -> Option<usize> {
    let before_hashes = code.trim_end_matches('#');
    before_hashes.ends_with('r').then(|| code.len() - before_hashes.len())
}

/// How long a string is from behind its opening quote to behind its closing one.
fn string_length(rest: &str, raw_hashes: Option<usize>) -> usize {
    if let Some(hashes) = raw_hashes {
        let end = format!("\"{}", "#".repeat(hashes));
        return rest.find(&end).map_or(rest.len(), |at| at + end.len());
    }
    let mut is_escaped = false;
    for (at, char) in rest.char_indices() {
        match char {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    rest.len()
}
