//! Checks the statements of ARCHITECTURE.md about crates and modules against the manifests and the sources.
//! (deny.toml says which crate may use which third-party crate.)
//!
//! Seen to fail when:
//! - `policy` depends on `ruleset`, `watch` on `dataplane` (also as a dev-dependency), `dataplane` on `testkit`; the root's
//!   `lab` is not optional; `kube` is not; a crate is added that no rule knows;
//! - `policy` says `use std::{collections::BTreeMap, time::Instant}`, `ruleset` has an `async fn` or calls `std::env::var`;
//! - the reference says `use crate::{flow::Flow, index::Index}`, `crate::compile::compile()`, `super::super::index`, or
//!   calls the engine's `Selector::selects`; the compiler says `crate::reference::evaluate`;
//! - `lab/src/namespace.rs` names `traffic::raw::Launchers`, `demo/manifests.rs` `super::stage::Stage`, also through a
//!   re-export; a circle of CIRCLES is gone;
//! - `nftables::` is named in no module, or in a second one; `unsafe` appears in an unlisted module;
//! - a script is not executable, or lacks `set -euo pipefail`.

mod circles;
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The workspace crates that each crate may use, in its code and in its tests.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("palisade-policy", &[]),
    ("palisade-analysis", &["palisade-policy"]),
    ("palisade-ruleset", &["palisade-policy"]),
    ("palisade-watch", &["palisade-policy"]),
    ("palisade-engine", &["palisade-policy", "palisade-ruleset"]),
    ("palisade-dataplane", &["palisade-policy", "palisade-ruleset", "palisade-engine"]),
    ("palisade-lab", &[]),
    ("palisade-testkit", &["palisade-policy", "palisade-ruleset", "palisade-engine"]),
    (
        "palisade",
        &[
            "palisade-policy",
            "palisade-analysis",
            "palisade-ruleset",
            "palisade-engine",
            "palisade-watch",
            "palisade-dataplane",
            "palisade-lab",
        ],
    ),
];

/// Additional crates that tests may use: of every crate, and of one.
const FOR_TESTS: &[&str] = &["palisade-testkit", "palisade-lab"];
const FOR_TESTS_OF: &[(&str, &str)] = &[
    // Generated objects, written as manifests, are read back.
    ("palisade-testkit", "palisade-watch"),
];

/// Words for which code without I/O, clock, environment and tasks has no use.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "env",
    "fs",
    "File",
    "process",
    "thread",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "stdin",
    "stdout",
    "stderr",
    "async",
    "await",
    "tokio",
];

/// The crates to which [`IMPURE`] applies.
const PURE_CRATES: &[&str] = &["policy", "analysis", "ruleset", "engine"];

/// The modules of its crate that the reference evaluator may use.
const REFERENCE_USES: &[&str] = &["input", "flow", "reference"];

/// The engine's own matching, which the reference must not share although it is on an input type.
const ENGINE_MATCHERS: &[&str] = &[".selects(", "::selects", ".is_met_by(", "::is_met_by"];

/// The one module that names the crate `nftables`: this file, or those of the directory of the same name.
const NFTABLES_MODULE: &str = "crates/ruleset/src/json";

/// The modules in which an interface requires `unsafe`.
const UNSAFE_MODULES: &[&str] = &["crates/lab/src/enter.rs", "crates/watch/src/directory/inotify.rs"];

/// The circles of files that still exist.
const CIRCLES: &[&[&str]] = &[
    &["crates/engine/src/doubt.rs", "crates/engine/src/witness.rs"],
    &[
        "crates/policy/src/index/apply.rs",
        "crates/policy/src/index/build.rs",
        "crates/policy/src/index/counts.rs",
        "crates/policy/src/index/due.rs",
        "crates/policy/src/index/load.rs",
        "crates/policy/src/index/shares.rs",
        "crates/policy/src/index/terms.rs",
    ],
    &["crates/ruleset/src/render/objects.rs", "crates/ruleset/src/render/renderer.rs"],
    &["crates/testkit/src/fakeapi/connection.rs", "crates/testkit/src/fakeapi/watch.rs"],
    &["crates/watch/src/decode/controller.rs", "crates/watch/src/decode/workload.rs"],
    &["src/agent/enforcer.rs", "src/agent/foreign.rs"],
];

#[test]
fn crates_use_each_other_in_one_direction() {
    let packages = workspace_packages();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = DEPENDENCIES.iter().find(|(known, _)| *known == name) else {
            panic!("{name} is new: say in DEPENDENCIES, and in ARCHITECTURE.md, what it may depend on");
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let for_tests =
                dependency["kind"] == "dev" && (FOR_TESTS.contains(&on) || FOR_TESTS_OF.contains(&(name, on)));
            assert!(
                !on.starts_with("palisade") || allowed.contains(&on) || for_tests,
                "{name} must not depend on {on}: see \"Code map\" in ARCHITECTURE.md; move the code to the crate that \
                 may have it, or pass the value in"
            );
        }
    }
    assert_eq!(packages.len(), DEPENDENCIES.len(), "DEPENDENCIES names a crate that is gone");
}

#[test]
fn the_lab_is_left_out_of_the_image() {
    let packages = workspace_packages();
    let root = packages.iter().find(|package| package["name"] == "palisade").unwrap();
    let dependencies = root["dependencies"].as_array().unwrap();
    let lab = dependencies.iter().find(|on| on["name"] == "palisade-lab" && on["kind"].is_null()).unwrap();
    assert_eq!(lab["optional"], true, "palisade-lab must stay optional, behind the feature `demo`");
}

#[test]
fn the_demo_is_built_without_the_client_of_an_api_server() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package=palisade", "--no-default-features", "--features=demo"])
        .args(["--edges=normal", "--prefix=none", "--format={p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.contains("palisade-lab"), "{built:?}");
    for client in ["kube", "k8s-openapi", "rustls", "ring", "tower"] {
        assert!(
            !built.contains(client),
            "{client}: hack/demo builds minutes longer; put it behind the feature `cluster`"
        );
    }
}

#[test]
fn policy_and_ruleset_are_pure() {
    for name in PURE_CRATES {
        for (path, code) in sources(&format!("crates/{name}/src")) {
            for (line, word, called) in words(&code) {
                // `env!` is read at compile time.
                assert!(
                    !IMPURE.contains(&word) || (word == "env" && called == Some('!')),
                    "{path}:{line}: `{word}`: {name} does no I/O and knows no clock, environment, thread or task; let the \
                     caller do that and pass the result in"
                );
            }
        }
    }
}

#[test]
fn the_reference_shares_only_input_types() {
    let reference = "crates/policy/src/reference";
    let mut files = sources(reference);
    files.extend(sources(&format!("{reference}.rs")));
    assert!(files.len() > 1, "{reference} has moved: update this test");
    for (path, code) in files {
        // In a child module `super::super` leaves the reference; in reference.rs `super` does.
        let top = path.ends_with("/reference.rs");
        assert!(
            !code.contains(if top { "super::" } else { "super::super" }),
            "{path}: name items outside of the reference as `crate::…`, so that this test finds them"
        );
        for used in crate_paths(&code) {
            assert!(
                REFERENCE_USES.contains(&used.as_str()),
                "{path}: `crate::{used}`: the reference evaluator is the second opinion on the rest of the crate; it \
                 may share {REFERENCE_USES:?} with it and nothing else"
            );
        }
        for matcher in ENGINE_MATCHERS {
            assert!(!code.contains(matcher), "{path}: `{matcher}` is the engine's; the reference has its own");
        }
    }
    for (path, code) in sources("crates/policy/src") {
        assert!(
            path.contains("/reference") || !crate_paths(&code).contains("reference"),
            "{path}: the engine must not use the reference evaluator that it is tested against"
        );
    }
}

#[test]
fn one_module_names_the_nftables_crate() {
    let all = sources("crates/ruleset/src");
    let naming: Vec<&String> =
        all.iter().filter(|(_, code)| code.contains("nftables::")).map(|(path, _)| path).collect();
    assert!(!naming.is_empty(), "{NFTABLES_MODULE} has moved: update this test");
    for path in naming {
        let rest = path.strip_prefix(NFTABLES_MODULE).unwrap_or_default();
        assert!(
            rest == ".rs" || rest.starts_with('/'),
            "{path} names the crate nftables: everything outside of {NFTABLES_MODULE} speaks the ruleset's own model"
        );
    }
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    let mut found = BTreeSet::new();
    for root in ["src", "crates"] {
        for (path, code) in sources(root) {
            if words(&code).any(|(_, word, _)| word == "unsafe") {
                found.insert(path);
            }
        }
    }
    let listed: BTreeSet<String> = UNSAFE_MODULES.iter().map(ToString::to_string).collect();
    assert_eq!(found, listed, "left: modules with unsafe code, right: UNSAFE_MODULES; avoid it, or list it");
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let mut directories = vec!["src".to_owned()];
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().file_name());
    directories.extend(crates.map(|name| format!("crates/{}/src", name.display())));
    let mut unbroken = BTreeSet::new();
    for directory in directories {
        let files = circles::Crate::new(&directory, sources(&directory));
        for circle in files.circles() {
            let listed = CIRCLES.iter().find(|listed| circle.iter().all(|file| listed.contains(file)));
            let Some(listed) = listed else {
                panic!("{circle:#?} name each other in a circle: move the shared items to a file that names neither")
            };
            unbroken.insert(*listed);
        }
    }
    let broken: Vec<_> = CIRCLES.iter().filter(|listed| !unbroken.contains(*listed)).collect();
    assert!(broken.is_empty(), "remove these from CIRCLES, they are no longer circles: {broken:#?}");
}

#[test]
fn scripts_run_and_stop_at_errors() {
    let mut scripts: Vec<PathBuf> = vec![root().join(".ci/run")];
    let entries = fs::read_dir(root().join("hack")).unwrap().map(|entry| entry.unwrap().path());
    // These are sourced, not run.
    let sourced = |path: &PathBuf| path.ends_with("lib") || path.ends_with("mutations");
    scripts.extend(entries.filter(|path| path.is_file() && !sourced(path)));
    for path in scripts {
        let text = fs::read_to_string(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        let path = path.display();
        assert!(mode & 0o111 == 0o111, "chmod +x {path}");
        assert!(text.starts_with("#!/usr/bin/env bash\n"), "{path} must start with #!/usr/bin/env bash");
        assert!(text.contains("\nset -euo pipefail\n"), "{path} must `set -euo pipefail`");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The workspace's packages in cargo's output.
fn workspace_packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata.get("packages").unwrap().as_array().unwrap().clone()
}

/// The Rust files below a directory (or the file itself), by path from the root, without comments, strings and tests.
fn sources(start: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root().join(start)];
    while let Some(path) = open.pop() {
        let is = |name: &str| path.file_name().is_some_and(|last| last == name);
        if path.is_dir() && !is("tests") && !is("benches") {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is("tests.rs") {
            let code = without_tests(&without_text(&fs::read_to_string(&path).unwrap()));
            found.insert(path.strip_prefix(root()).unwrap().display().to_string(), code);
        }
    }
    found
}

/// Blanks comments and the content of string and character literals; lines keep their numbers.
fn without_text(source: &str) -> String {
    let mut result = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = literal_or_comment(rest);
        if skipped == 0 {
            result.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            result.extend(rest[..skipped].chars().filter(|&char| char == '\n'));
            rest = &rest[skipped..];
        }
    }
    result
}

/// The length of the comment or literal that `rest` starts with, or 0.
fn literal_or_comment(rest: &str) -> usize {
    let until = |start: usize, end: &str| rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return until(hashes + 2, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    if let Some(text) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = text.find(|char| {
            let closes = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            closes
        });
        return end.map_or(rest.len(), |at| at + 2);
    }
    // A character, unlike a lifetime, is closed after one character or an escape.
    if let Some(quoted) = rest.strip_prefix('\'') {
        if quoted.starts_with('\\') {
            return until(3, "'");
        }
        let after = quoted.chars().next().map_or(0, char::len_utf8);
        if quoted[after..].starts_with('\'') {
            return after + 2;
        }
    }
    0
}

/// Drops each item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut result = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let item = &rest[at + MARK.len()..];
        let mut depth = 0_usize;
        let end = item.find(|char| {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && (char == '}' || char == ';')
        });
        let end = end.map_or(item.len(), |at| at + 1);
        result.push_str(&rest[..at]);
        result.extend(item[..end].chars().filter(|&char| char == '\n'));
        rest = &item[end..];
    }
    result + rest
}

/// The identifiers and keywords of the code: line number, word, the character after it.
fn words(code: &str) -> impl Iterator<Item = (usize, &str, Option<char>)> {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    code.lines().enumerate().flat_map(move |(line, text)| {
        text.split(move |char| !part(char)).filter(|word| !word.is_empty()).map(move |word| {
            let after = word.as_ptr().addr() - text.as_ptr().addr() + word.len();
            (line + 1, word, text[after..].chars().next())
        })
    })
}

/// The paths after `crate::` in the code: `a` and `b` of `crate::a::A` and `use crate::{a::A, b}`.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, mark) in code.match_indices("crate::") {
        let rest = &code[at + mark.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_i32;
            let top_level = group
                .chars()
                .take_while(|&char| {
                    depth += i32::from(char == '{') - i32::from(char == '}');
                    depth >= 0
                })
                .collect::<String>();
            found.extend(split_top_level(&top_level));
        } else {
            found.extend(first_word(rest));
        }
    }
    found
}

fn split_top_level(group: &str) -> Vec<String> {
    let mut depth = 0_i32;
    group
        .split(|char| {
            depth += i32::from(char == '{') - i32::from(char == '}');
            char == ',' && depth == 0
        })
        .filter_map(first_word)
        .collect()
}

fn first_word(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|char: char| !(char.is_alphanumeric() || char == '_' || char == '*')).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[test]
fn circles_are_found_through_imports_and_re_exports() {
    let sources = [
        (
            "src/lib.rs",
            "mod a; mod b; mod c; mod d; pub use c::{deep::Deep, self as other}; use std::{fmt, io::Read as _};",
        ),
        ("src/a.rs", "use crate::{b::{self, B}, c as renamed}; fn f() -> b::X { renamed::g(); fmt::Error }"),
        ("src/b.rs", "use super::Deep; pub struct B(Deep);"),
        ("src/c.rs", "pub mod deep; fn g() { crate::d::h() }"),
        ("src/c/deep.rs", "use super::g; pub struct Deep; fn i() { crate::a::f() }"),
        ("src/d.rs", "use crate::b; use super::b::B; fn h(b: B) {}"),
    ];
    let sources = sources.map(|(path, code)| (path.to_owned(), code.to_owned()));
    let found = circles::Crate::new("src", sources.into());
    // a names b and c, c names d, d names b, b names deep, deep names a. Nothing names lib, which names deep.
    assert_eq!(found.circles(), [BTreeSet::from(["src/a.rs", "src/b.rs", "src/c.rs", "src/c/deep.rs", "src/d.rs"])]);
}

#[test]
fn the_scanner_reads_rust() {
    let source = r#"
use crate::{input::{Pod, Rule}, flow::Flow, index};
/* fs */ // env
fn f<'a>(x: &'a str) -> char { crate::compile::g(); "\"async"; RAW; 'f'; '\''; env!("X") }
#[cfg(test)]
mod tests { fn g() { thread() } }
fn last() {}
"#
    .replace("RAW", "r#\"tokio \"quoted\"\"#");
    let code = without_tests(&without_text(&source));
    assert_eq!(code.lines().count(), source.lines().count());
    let all: Vec<&str> = words(&code).map(|(_, word, _)| word).collect();
    for absent in ["fs", "async", "tokio", "thread"] {
        assert!(!all.contains(&absent), "{absent} in {code}");
    }
    for (line, word, after) in [(4, "char", Some(' ')), (4, "env", Some('!')), (7, "last", Some('('))] {
        assert!(words(&code).any(|found| found == (line, word, after)), "{word} in {code}");
    }
    let used: Vec<String> = crate_paths(&code).into_iter().collect();
    assert_eq!(used, ["compile", "flow", "index", "input"]);
}
