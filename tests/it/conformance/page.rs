//! `docs/conformance.md` names only existing tests and cases, and every case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::conformance::table;

const PAGE: &str = "docs/conformance.md";

/// The names on the page, each with its file: `` [`name`][key] `` and `[key]: path`.
fn references() -> Vec<(String, String)> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let definition = |line: &str| {
        let (key, path) = line.strip_prefix('[')?.split_once("]: ../")?;
        Some((key.to_owned(), path.to_owned()))
    };
    let files: BTreeMap<String, String> = page.lines().filter_map(definition).collect();
    let reference = |text: &str| {
        let (name, rest) = text.split_once("`][").expect("a name and the key of its file");
        let key = rest.split(']').next().unwrap();
        (name.to_owned(), files.get(key).unwrap_or_else(|| panic!("[{key}] leads nowhere")).clone())
    };
    page.split("[`").skip(1).map(reference).collect()
}

/// Whether a file contains the test or case of this name.
fn holds(file: &str, name: &str) -> bool {
    let Ok(text) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)) else { return false };
    match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("rs") => text.contains(&format!("fn {name}(")),
        Some("yaml") => text.lines().any(|line| line.strip_prefix("case: ") == Some(name)),
        _ => Path::new(file).parent().is_some_and(|case| case.ends_with(name)),
    }
}

#[test]
fn everything_that_the_page_names_exists() {
    let references = references();
    assert!(references.len() > 150, "the names themselves are not read");
    let missing: Vec<_> = references.iter().filter(|(name, file)| !holds(file, name)).collect();
    assert!(missing.is_empty(), "{PAGE} names what does not exist: {missing:#?}");
}

#[test]
fn the_page_names_every_case() {
    let named: BTreeSet<_> = references().into_iter().map(|(name, _)| name).collect();
    for directory in ["conformance", "conformance/corners", "conformance/endings"] {
        for case in table::read(directory) {
            assert!(named.contains(&case.name), "{PAGE} does not name case {}", case.name);
        }
    }
}
