//! Every path, command and test that a page names in backticks exists.
//!
//! Seen to fail when: ARCHITECTURE.md named a file that had moved; a command's script was renamed; the test of a fault in
//! docs/reliability.md had another name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The directories in which paths begin; crates may be named without theirs.
const ROOTS: &[&str] = &["crates", "src", "tests", "hack", "docs", "manifests", ".ci", ".github"];

/// The commands whose arguments are parts of test names.
const TEST_COMMANDS: &[&str] = &["hack/test", "hack/faults"];

/// The tiers of hack/test.
const TIERS: &[&str] = &["pure", "kernel", "api"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the repository below a directory, relative to the root.
fn files(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = directory.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                files(&path, found);
            }
        } else {
            found.insert(path);
        }
    }
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The code spans of a page outside of fenced blocks, with the number of their line.
fn spans(page: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut all = Vec::new();
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            all.extend(line.split('`').skip(1).step_by(2).map(|span| (number + 1, span.to_owned())));
        }
    }
    all
}

/// The paths and names that exist.
struct Repository {
    files: BTreeSet<PathBuf>,
    crates: BTreeSet<String>,
    /// The names of functions and modules in Rust.
    names: BTreeSet<String>,
}

impl Repository {
    fn read() -> Self {
        let mut found = BTreeSet::new();
        files(Path::new(""), &mut found);
        let crates = found.iter().filter_map(|file| file.strip_prefix("crates").ok()?.iter().next()?.to_str());
        let crates = crates.map(str::to_owned).collect();
        let mut names = BTreeSet::new();
        for file in found.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
            names.insert(file.file_stem().unwrap().to_str().unwrap().to_owned());
            let text = fs::read_to_string(root().join(file)).unwrap();
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            names.extend(words.filter(|word| word.contains('_')).map(str::to_owned));
        }
        Self { files: found, crates, names }
    }

    /// Whether a path exists: from the root, from `crates`, or, for a source, as the end of a file's path.
    fn has(&self, path: &str) -> bool {
        let path = Path::new(path.trim_end_matches('/'));
        let is = |path: &Path| self.files.iter().any(|file| file.starts_with(path));
        is(path)
            || is(&Path::new("crates").join(path))
            || (is_source(path) && self.files.iter().any(|file| file.ends_with(path)))
    }

    /// Whether a span is a path: it begins with a known directory, or it is a source.
    fn is_path(&self, span: &str) -> bool {
        let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'));
        let first = span.split('/').next().unwrap_or_default();
        let begins = span.contains('/') && (ROOTS.contains(&first) || self.crates.contains(first));
        plain && (begins || is_source(Path::new(span)))
    }

    /// The mistake in a span.
    fn wrong(&self, span: &str) -> Option<String> {
        let mut words = span.split(' ');
        let command = words.find(|word| !word.contains('='))?;
        if !self.is_path(command) {
            return None;
        }
        if !self.has(command) {
            return Some(format!("there is no {command}"));
        }
        if !TEST_COMMANDS.contains(&command) {
            return None;
        }
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if word == "-p" {
                words.next();
                continue;
            }
            let last = word.rsplit("::").find(|part| !part.is_empty()).unwrap_or_default();
            let is_name = last.starts_with(|c: char| c.is_ascii_lowercase()) && !TIERS.contains(&word);
            if is_name && !self.names.iter().any(|name| name.contains(last)) {
                return Some(format!("no test has {last} in its name"));
            }
        }
        None
    }
}

#[test]
fn everything_that_pages_name_exists() {
    let repository = Repository::read();
    let is_page = |file: &&PathBuf| {
        let top = file.parent().is_none_or(|parent| parent == Path::new("") || parent.starts_with("manifests"));
        file.extension().is_some_and(|extension| extension == "md")
            && (top || file.starts_with("docs"))
            && !file.ends_with("CHANGELOG.md")
    };
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in repository.files.iter().filter(is_page) {
        let text = fs::read_to_string(root().join(page)).unwrap();
        for (line, span) in spans(&text) {
            seen += 1;
            wrong.extend(repository.wrong(&span).map(|what| format!("{}:{line}: `{span}`: {what}", page.display())));
        }
    }
    assert!(seen > 1_000, "only {seen} code spans were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
