//! Which files an input has, in name order: one file, a folder's files, or a glob's.
//!
//! Names that begin with `.` or `_` are skipped, as by other readers of data folders. A symbolic
//! link to a folder is followed once, so a loop of links ends.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::InputError;
use super::remote_listing::RemoteLocation;
use super::source::{Compression, Format, Source};
use crate::domain::Location;
use crate::domain::reading::FileFormat;
use crate::domain::spec::CloudSpec;

/// Wildcards never cross a `/` and never match a hidden name.
pub(super) const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// An input's location, understood.
#[derive(Debug)]
pub(super) enum InputLocation {
    Disk(DiskLocation),
    Object(RemoteLocation),
}

/// A path, and what stands there.
#[derive(Debug)]
pub(super) struct DiskLocation {
    typed: PathBuf,
    kind: Kind,
    /// The format that every file is told to be of.
    told: Option<FileFormat>,
}

#[derive(Debug)]
enum Kind {
    File,
    Folder,
    /// The part before the first wildcard, and the pattern below it.
    Glob {
        base: PathBuf,
        pattern: Pattern,
    },
}

impl InputLocation {
    /// Looks what stands at `typed`. What exists under a name with wildcards is taken as it is. If
    /// the files are `told` to be of one format, every file is, else those are that their names say
    /// to be of one that can be read.
    pub(super) fn resolve(
        typed: &Location,
        cloud: &CloudSpec,
        told: Option<FileFormat>,
    ) -> Result<InputLocation, InputError> {
        match typed {
            Location::Path(path) => DiskLocation::resolve(path, told).map(InputLocation::Disk),
            Location::Object(url) => {
                RemoteLocation::resolve(url, cloud, told).map(InputLocation::Object)
            }
        }
    }

    /// The files in name order, at least one, all of one format; each with what it is compressed with.
    pub(super) fn files(&self) -> Result<(FileFormat, Vec<(Source, Compression)>), InputError> {
        let (location, sources, told) = match self {
            InputLocation::Disk(disk) => {
                (disk.typed.display().to_string(), disk.sources()?, disk.told)
            }
            InputLocation::Object(remote) => (remote.typed(), remote.sources()?, remote.told()),
        };
        let mut first: Option<(FileFormat, String)> = None;
        let mut files = Vec::with_capacity(sources.len());
        for source in sources {
            let name = source.name();
            let Some(Format { kind, compression }) = Format::of(Path::new(name), told) else {
                return Err(InputError::UnknownFormat { file: name.to_owned() });
            };
            let (first_kind, first) = first.get_or_insert_with(|| (kind, name.to_owned()));
            if *first_kind != kind {
                let (first, second) = (first.clone(), name.to_owned());
                return Err(InputError::MixedFormats { first, second });
            }
            files.push((source, compression));
        }
        match first {
            Some((kind, _)) => Ok((kind, files)),
            None => Err(InputError::NoFiles { location }),
        }
    }

    /// Whether a file written into the folder `out` would belong to this input, now or in a later
    /// run. `out` need not exist.
    pub(super) fn would_find(&self, out: &Location) -> bool {
        match (self, out) {
            (InputLocation::Disk(disk), Location::Path(out)) => disk.would_find(out),
            (InputLocation::Object(remote), Location::Object(out)) => remote.would_find(out),
            _ => false,
        }
    }
}

impl DiskLocation {
    fn resolve(typed: &Path, told: Option<FileFormat>) -> Result<DiskLocation, InputError> {
        let location = typed.display().to_string();
        let kind = match fs::metadata(typed) {
            Ok(metadata) if metadata.is_dir() => Kind::Folder,
            Ok(metadata) if metadata.is_file() => Kind::File,
            Ok(_) => return Err(InputError::NoRegularFile { file: location }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                let (base, below) = split_glob(typed);
                match below.to_str() {
                    Some(below) if has_wildcard(below) => Kind::Glob {
                        base,
                        pattern: Pattern::new(below)
                            .map_err(|source| InputError::BadPattern { location, source })?,
                    },
                    _ => return Err(InputError::NotFound { location }),
                }
            }
            Err(source) => return Err(InputError::Io { file: location, source }),
        };
        Ok(DiskLocation { typed: typed.to_owned(), kind, told })
    }

    /// The files in name order.
    fn sources(&self) -> Result<Vec<Source>, InputError> {
        let mut found = Found { told: self.told, ..Found::default() };
        match &self.kind {
            Kind::File => {
                let name = self.typed.file_name().unwrap_or(self.typed.as_os_str());
                found.files.insert(name.to_string_lossy().into_owned(), self.typed.clone());
            }
            Kind::Folder => found.walk(&self.typed, "")?,
            Kind::Glob { base, pattern } => found.matches(base, pattern)?,
        }
        found.files.into_iter().map(|(name, path)| Source::new(path, name)).collect()
    }

    fn would_find(&self, out: &Path) -> bool {
        let out = resolved(out);
        match &self.kind {
            Kind::File => out == resolved(&self.typed),
            Kind::Folder => out
                .strip_prefix(resolved(&self.typed))
                .is_ok_and(|below| !below.components().any(is_hidden)),
            Kind::Glob { base, pattern } => out.strip_prefix(resolved(base)).is_ok_and(|below| {
                let part = below.join("part-000001.parquet");
                part.ancestors().any(|path| pattern.matches_path_with(path, MATCHING))
            }),
        }
    }
}

/// Files by name, and the folders that were walked.
#[derive(Default)]
struct Found {
    files: BTreeMap<String, PathBuf>,
    walked: HashSet<PathBuf>,
    told: Option<FileFormat>,
}

impl Found {
    /// Adds the files in `folder` and below; `name` is the folder's, with a `/` at its end.
    fn walk(&mut self, folder: &Path, name: &str) -> Result<(), InputError> {
        let io_error = |source| InputError::Io { file: folder.display().to_string(), source };
        if !self.walked.insert(fs::canonicalize(folder).map_err(io_error)?) {
            return Ok(());
        }
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(io_error)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let entry_name = entry.file_name().to_string_lossy().into_owned();
            if entry_name.starts_with(['.', '_']) {
                continue;
            }
            if path.is_dir() {
                self.walk(&path, &format!("{name}{entry_name}/"))?;
            } else {
                self.add(format!("{name}{entry_name}"), path)?;
            }
        }
        Ok(())
    }

    /// Adds the file, if it is of a format that is read.
    fn add(&mut self, name: String, path: PathBuf) -> Result<(), InputError> {
        if Format::of(Path::new(&name), self.told).is_none() {
            return Ok(());
        }
        // What waits for a writer, as a pipe does, would be waited for.
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(InputError::NoRegularFile { file: name });
        }
        // Two names that are no UTF-8 can look alike, and a name stands for its file in the output.
        if name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(InputError::BadName { file: name });
        }
        self.files.insert(name, path);
        Ok(())
    }

    /// Adds what `pattern` matches below `base`: files, and the files in matching folders.
    fn matches(&mut self, base: &Path, pattern: &Pattern) -> Result<(), InputError> {
        let literal = Pattern::escape(&base.to_string_lossy());
        let literal = if literal == "." { "" } else { &literal };
        let whole = Path::new(literal).join(pattern.as_str());
        let whole = whole.to_string_lossy();
        let paths = glob::glob_with(&whole, MATCHING)
            .map_err(|source| InputError::BadPattern { location: whole.to_string(), source })?;
        // What the user spelled out with a leading `_` is wanted.
        let takes_hidden = Path::new(pattern.as_str()).components().any(is_hidden);
        for path in paths {
            let path = path.map_err(|error| InputError::Io {
                file: error.path().display().to_string(),
                source: error.into(),
            })?;
            let below = path.strip_prefix(base).unwrap_or(&path);
            if below.components().any(is_hidden) && !takes_hidden {
                continue;
            }
            let name = slashed(below);
            if path.is_dir() {
                self.walk(&path, &format!("{name}/"))?;
            } else {
                self.add(name, path)?;
            }
        }
        Ok(())
    }
}

pub(super) fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

pub(super) fn is_hidden(component: Component<'_>) -> bool {
    matches!(component, Component::Normal(name) if name.to_string_lossy().starts_with(['.', '_']))
}

fn slashed(path: &Path) -> String {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    names.join("/")
}

/// The components before the first one with a wildcard (`.` if there are none), and the rest.
fn split_glob(typed: &Path) -> (PathBuf, PathBuf) {
    let is_plain =
        |component: &Component<'_>| !has_wildcard(&component.as_os_str().to_string_lossy());
    let base: PathBuf = typed.components().take_while(is_plain).collect();
    let below = typed.components().skip_while(is_plain).collect();
    if base.as_os_str().is_empty() { (PathBuf::from("."), below) } else { (base, below) }
}

/// `path` without links and dots, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let Ok(real) = fs::canonicalize(ancestor) {
            let rest = absolute.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[expect(clippy::disallowed_methods, reason = "tests write their own inputs")]
    fn folder_of(names: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn resolve(location: &Path) -> Result<InputLocation, InputError> {
        InputLocation::resolve(&location.into(), &CloudSpec::default(), None)
    }

    fn names(location: &Path) -> Result<Vec<String>, InputError> {
        let (_, sources) = resolve(location)?.files()?;
        Ok(sources.iter().map(|(source, _)| source.name().to_owned()).collect())
    }

    #[test]
    fn a_folder_gives_its_files_in_name_order_without_hidden_ones() {
        let folder = folder_of(&[
            "b.csv",
            "a/z.CSV",
            "a.csv",
            "notes.txt",
            ".hidden.csv",
            "_temporary.csv",
            "_batchclass/c.csv",
        ]);
        assert_eq!(names(folder.path()).unwrap(), ["a.csv", "a/z.CSV", "b.csv"]);
    }

    #[test]
    fn a_glob_gives_files_and_the_files_of_matching_folders() {
        let folder = folder_of(&["y=1/a.pq", "y=2/b.pq", "c.pq", "x.csv", "_y=3/d.pq"]);
        assert_eq!(names(&folder.path().join("y=*")).unwrap(), ["y=1/a.pq", "y=2/b.pq"]);
        assert_eq!(
            names(&folder.path().join("**/*.pq")).unwrap(),
            ["c.pq", "y=1/a.pq", "y=2/b.pq"]
        );
        assert_eq!(names(&folder.path().join("_y=*/*.pq")).unwrap(), ["_y=3/d.pq"]);
    }

    #[test]
    fn a_file_whose_name_looks_like_a_glob_is_that_file() {
        let folder = folder_of(&["a[1].csv", "a1.csv"]);
        assert_eq!(names(&folder.path().join("a[1].csv")).unwrap(), ["a[1].csv"]);
    }

    #[test]
    fn told_their_format_files_are_taken_whatever_their_names() {
        let folder = folder_of(&["a.txt", "b", "c.dat.gz", "_d.txt"]);
        let told = Some(FileFormat::Csv);
        let location =
            InputLocation::resolve(&folder.path().join("a*").into(), &CloudSpec::default(), told);
        assert_eq!(location.unwrap().files().unwrap().1.len(), 1);
        let location =
            InputLocation::resolve(&folder.path().into(), &CloudSpec::default(), told).unwrap();
        let files = location.files().unwrap().1.into_iter();
        let files: Vec<_> = files.map(|(source, how)| (source.name().to_owned(), how)).collect();
        assert_eq!(
            files,
            [
                ("a.txt".to_owned(), Compression::None),
                ("b".to_owned(), Compression::None),
                ("c.dat.gz".to_owned(), Compression::Gzip),
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_names_that_are_no_text_are_refused_and_not_waited_for_or_lost() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let folder = folder_of(&["pipes/a.csv", "names/a.csv", "folders/a.csv"]);
        let pipe = folder.path().join("pipes/b.csv");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for location in [&pipe, &folder.path().join("pipes"), &folder.path().join("pipes/*")] {
            let refused = names(location).unwrap_err();
            assert!(matches!(refused, InputError::NoRegularFile { .. }), "{refused}");
        }
        let odd = OsStr::from_bytes(b"b\xff");
        let file = folder.path().join("names").join(odd).with_extension("csv");
        fs::File::options().write(true).create_new(true).open(file).unwrap();
        let below = folder.path().join("folders").join(odd);
        fs::create_dir(&below).unwrap();
        fs::File::options().write(true).create_new(true).open(below.join("c.csv")).unwrap();
        for location in ["names", "folders", "[nf]*"] {
            let refused = names(&folder.path().join(location)).unwrap_err();
            assert!(matches!(refused, InputError::BadName { .. }), "{refused}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_ends() {
        let folder = folder_of(&["sub/a.csv"]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("sub/up")).unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["sub/a.csv"]);
        std::os::unix::fs::symlink("gone", folder.path().join("b.csv")).unwrap();
        assert!(matches!(names(folder.path()), Err(InputError::Io { .. })));
    }

    #[test]
    fn what_holds_nothing_or_two_formats_is_refused() {
        let folder = folder_of(&["mixed/a.csv", "mixed/b.parquet", "empty/c.txt"]);
        let refusal = |name: &str| names(&folder.path().join(name)).unwrap_err();
        assert!(matches!(refusal("mixed"), InputError::MixedFormats { .. }));
        assert!(matches!(refusal("empty"), InputError::NoFiles { .. }));
        assert!(matches!(refusal("*.csv"), InputError::NoFiles { .. }));
        assert!(matches!(refusal("empty/c.txt"), InputError::UnknownFormat { .. }));
        assert!(matches!(refusal("gone"), InputError::NotFound { .. }));
        assert!(matches!(refusal("a**"), InputError::BadPattern { .. }));
    }

    #[test]
    fn an_output_whose_parts_would_be_found_is_inside() {
        let folder = folder_of(&["in/a.parquet", "out/part-000001.parquet"]);
        let inside = |location: &str, out: &str| {
            let location = resolve(&folder.path().join(location)).unwrap();
            location.would_find(&folder.path().join(out).into())
        };
        assert!(inside("in", "in"));
        assert!(inside("in", "in/new/out"));
        assert!(inside("in", "out/../in"));
        assert!(!inside("in", "out"));
        assert!(!inside("in", "in/_out"));
        assert!(inside("in/a.parquet", "in/a.parquet"));
        assert!(!inside("in/a.parquet", "in"));
        assert!(inside("in/*.parquet", "in"));
        assert!(!inside("in/*.parquet", "in/out"));
        assert!(inside("*", "new"));
        assert!(inside("**/*.parquet", "in/new"));
        assert!(!inside("in/a*.parquet", "in"));
    }
}
