//! Compares this parser with kubectl's on generated and mutated files. `hack/yaml` prints what kubectl reads.
//!
//! `PALISADE_DOCUMENTS` sets the number of files, `PALISADE_SEED` the seed.
//!
//! Seen to fail when: quoted text may not continue at the column of its key; `12e400` is a number; a tab may begin a
//! line; consecutive JSON values are YAML; `?` does not end a key in braces; `--- x` begins a document; of two merges
//! the first wins.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value as Json, json};

use super::documents;
use crate::node::{Node, Value};

/// Whole files to mutate.
const FILES: &[&str] = &[
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  podSelector:\n    matchLabels: {app: web, \"version\": '1.10'}\n  policyTypes: [Ingress, Egress]\n  ingress:\n  - from:\n    - podSelector: {}\n    - ipBlock:\n        cidr: 10.0.0.0/8\n        except: [10.1.0.0/16]\n    ports:\n    - port: 80\n      protocol: TCP\n    - {port: http, endPort: 090}\n  egress:\n  - {}\n",
    "# comment\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: \"a\n  b\"\n  labels:\n    x: 'one\n\n    two'\n    y: plain\n      goes on\n    z: \"\\u00e9\\x41\\n \\\n      end\"\nspec: &anchor\n  hostNetwork: off\n  list: [1, 0x10, 1e3, 1.5, .5, ~, yes, \"no\", -0b1, 1_000, 017]\nstatus:\n  <<: *anchor\n  phase: Running\n",
    "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\\/b\\u00e9\",\"labels\":{\"a\":\"1\",\"b\":null}},\"n\":[1,-2.5,1e3,true,false]}\n{\"kind\":\"Pod\"}\n\n{\"kind\":\"Pod\",\"x\":[]}\n",
    "{\n\t\"kind\": \"List\",\n\t\"items\": [\n\t\t{\"a\": \"b\"}\n\t]\n}\n",
    "kind: ConfigMap\ndata:\n  literal: |\n    one\n     two\n\n    # three\n  folded: >-\n    one\n    two\n\n      three\n    four\n  kept: |+2\n      x\n\n  empty: |\n---\nkind: List\nitems:\n- kind: Pod\n- - a\n  - b\n-\n  - c\n- ? key\n  : value\n",
    "{kind: Pod, a: [b, c: d, {e}, ], 'f': \"g\",}\n--- # next\nb: !!str 80\nc: ! x\nd: !!int \"7\"\ne: !local {f: *x}\n",
    "base: &b {k: 1, l: [x]}\none: {<<: *b, l: 2}\ntwo:\n  <<: [*b, {m: 3}]\nthree: *b\n80: a\non: b\n1.5: c\n...\n",
];

/// Fragments on which parsers differ.
const FRAGMENTS: &[&str] = &[
    "\t",
    "\n\t\n",
    "\n\t",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\u{a0}",
    "é",
    "\u{1f600}",
    "---",
    "\n---\n",
    "\n--- # c\n",
    "\n--- x\n",
    "\n----\n",
    "\n...\n",
    "...",
    "\n%YAML 1.1\n",
    "%",
    "#",
    " #",
    "# c\n",
    ":",
    ": ",
    ":\n",
    "-",
    "- ",
    "\n- ",
    "?",
    "? ",
    ",",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    "{a: b}",
    "{a:b}",
    "{a?b: c}",
    "{a:}",
    "[a, b]",
    "\"",
    "'",
    "\"\"",
    "''",
    "''''",
    "\\",
    "\\n",
    "\\/",
    "\\u00e9",
    "\\ud83d\\ude00",
    "\\xg",
    "\"a\n  b\"",
    "\"a\nb\"",
    "\"a\n\tb\"",
    "'a\n\n\tb'",
    "a\n  b",
    "a\n\tb",
    "|",
    ">",
    "|-",
    "|+",
    ">2",
    "|0",
    "|\n  a\n  b\n",
    ">\n  a\n   b\n\n  c\n",
    "|\n\ta\n",
    "&x ",
    "&x",
    "*x",
    "*x ",
    "*anchor",
    "*b",
    "!",
    "! ",
    "!!",
    "!!str ",
    "!!int ",
    "!!float ",
    "!!bool ",
    "!!null ",
    "!!binary eA==",
    "!<x> ",
    "!e!x ",
    "<<: *b",
    "<<: *anchor\n",
    "\n<<: {a: b}\n",
    "@",
    "`",
    "~",
    "null",
    "true",
    "y",
    "Off",
    "12e400",
    "1e3",
    "1e21",
    "1e22",
    "0x1F",
    "0o17",
    "0b11",
    "0b-1",
    "089",
    "08",
    "1_0",
    "1:30",
    ".5",
    "+.5",
    "5.",
    "-0",
    ".inf",
    ".NaN",
    "2001-01-01",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1.0",
    "1000000.0: a\n",
    "12345678901234567890",
    "=",
    "{\"a\":1}",
    "{\"a\":1}\n{\"b\":2}\n",
    "{\"a\":1}{\"b\":2}[3]",
    "\"k\": \"v\"",
    "kind: Pod\n",
    "a: 1\n",
    "\u{7f}",
    "\u{1}",
    "\u{fffd}",
    "a: b: c",
    "- a: b\n  c: d\n",
    "}}",
    "{{ x }}",
    "{{- if }}\n",
    "a: *a",
    "&a [*a]",
    "a:\n- b\n",
    "k: v #c\n",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    /// A position between characters.
    fn place(&mut self, text: &str) -> usize {
        let mut place = self.below(text.len() + 1);
        while !text.is_char_boundary(place) {
            place += 1;
        }
        place
    }

    fn file(&mut self) -> String {
        let mut text = match self.below(8) {
            0 => (0..=self.below(9)).map(|_| self.of(FRAGMENTS)).collect(),
            1 => [self.of(FILES), self.of(FILES)].concat(),
            _ => self.of(FILES).to_owned(),
        };
        if self.below(3) == 0 {
            let place = self.place(&text);
            text.truncate(place);
        }
        for _ in 0..self.below(5) {
            self.mutate(&mut text);
        }
        match self.below(30) {
            0 => text = text.replace('\n', "\r\n"),
            1 => text.insert(0, '\u{feff}'),
            2 => text.insert_str(0, "\u{feff}\u{feff}"),
            _ => {}
        }
        text
    }

    fn mutate(&mut self, text: &mut String) {
        let (one, other) = (self.place(text), self.place(text));
        let (from, to) = (one.min(other), one.max(other));
        match self.below(8) {
            0 => text.replace_range(from..to.min(text.ceil_char_boundary(from + 12)), ""),
            1 => {
                let copy = text[from..to].to_owned();
                text.insert_str(one, &copy);
            }
            2 => {
                let mut lines: Vec<_> = text.split_inclusive('\n').collect();
                let (a, b) = (self.below(lines.len()), self.below(lines.len()));
                if !lines.is_empty() {
                    lines.swap(a, b);
                }
                *text = lines.concat();
            }
            3 => {
                // Indent one line further.
                let start = text[..one].rfind('\n').map_or(0, |at| at + 1);
                let blanks = self.of(&[" ", "  ", "\t", "    "]);
                text.insert_str(start, blanks);
            }
            4 => {
                if let Some(at) = text[one..].find(' ') {
                    let instead = self.of(&["", "\t", "  ", "\n"]);
                    text.replace_range(one + at..=one + at, instead);
                }
            }
            _ => text.insert_str(one, self.of(FRAGMENTS)),
        }
    }
}

/// As JSON, with floats rounded to the digits on which all parsers agree.
fn canonical(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value, _) => json!(value),
        Value::Integer(value, _) => json!(value),
        Value::Float(written) => float(written.parse().unwrap()),
        Value::String(text) => json!(text),
        Value::Sequence(items) => items.iter().map(canonical).collect(),
        Value::Mapping(entries) => entries.iter().map(|e| (e.key.to_string(), canonical(&e.node))).collect(),
    }
}

fn float(value: f64) -> Json {
    json!(format!("{value:.12e}"))
}

fn without_floats(json: Json) -> Json {
    match json {
        Json::Number(number) if number.as_i64().is_none() => float(number.as_f64().unwrap()),
        Json::Array(items) => items.into_iter().map(without_floats).collect(),
        Json::Object(fields) => fields.into_iter().map(|(key, value)| (key, without_floats(value))).collect(),
        other => other,
    }
}

/// What kubectl reads from each file.
fn kubectl(files: &[String]) -> Vec<Json> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/yaml");
    let program = std::env::temp_dir().join(format!("palisade-yaml-{}", std::process::id()));
    let build =
        Command::new("go").args(["build", "-mod=readonly", "-o"]).arg(&program).arg(".").current_dir(source).status();
    assert!(build.expect("Go is needed: https://go.dev/dl").success(), "hack/yaml does not build");
    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let answers = thread::scope(|scope| {
        scope.spawn(move || {
            for file in files {
                write!(stdin, "{}\n{file}", file.len()).unwrap();
            }
        });
        stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    });
    assert!(child.wait().unwrap().success());
    std::fs::remove_file(program).unwrap();
    answers
}

/// How the parsers differ, if they do, and whether ours refused a duplicate key.
fn compare(file: &str, theirs: &Json) -> (Option<String>, bool) {
    let mut read = Vec::new();
    let mut error = None;
    for document in documents(file) {
        let is_empty = document.is_empty();
        match document.root {
            Ok(root) if !is_empty => read.push(canonical(&root)),
            Ok(_) => {}
            Err(malformed) => {
                error = Some(malformed.reason);
                break;
            }
        }
    }
    let expected: Vec<_> = theirs["documents"].as_array().unwrap().iter().cloned().map(without_floats).collect();
    let their_error = theirs["error"].as_str().unwrap();
    // kubectl never sees a number that JSON cannot express if a later key replaces it.
    let reasons = ["is given twice", "parsers disagree", "a key is empty", "a number that JSON cannot express"];
    let is_twice = |reason: &str| reasons.iter().any(|known| reason.contains(known));
    if error.as_deref().is_some_and(is_twice) && theirs["repeated"] == true {
        return ((!expected.starts_with(&read)).then(|| format!("{read:?} instead of {expected:?}")), true);
    }
    let same = read == expected && error.is_some() != their_error.is_empty();
    ((!same).then(|| format!("here {read:?} {error:?}\nkubectl {expected:?} {their_error:?}")), false)
}

/// Bugs that users met, and texts on which YAML versions differ.
const KNOWN: &[&str] = &[
    "metadata:\n  name: \"a\n  b\"\n",
    "a:\n  b: 'one\n  two'\n",
    "a: \"one\n\ttwo\"\n",
    "{\"a\": 1}\n{\"b\": 2}\n{\"c\": 3}\n",
    "{\"a\": 1}\n---\nb: 2\n---\n{\"c\": 3}\n",
    "\u{feff}\u{feff}a: 1\n",
    "a: {b: 12e400}\n",
    "a: 1\n\t\nb: 2\n",
    "a:\n\t\n  b: 2\n",
    "%YAML 1.1\n---\na: 1\n",
    "\"a\n  b\": c\n",
    "{a\n: b}\n",
    "--- {a: 1}\n",
];

#[test]
fn reads_what_kubectl_reads() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let wanted = usize::try_from(number("PALISADE_DOCUMENTS").unwrap_or(2_000)).unwrap();
    let fresh = || RandomState::new().build_hasher().finish() % 1_000_000_000;
    let seeds = number("PALISADE_SEED").map_or_else(|| vec![2017, fresh()], |seed| vec![seed]);
    println!("seeds {seeds:?}");
    let mut files: Vec<_> = KNOWN.iter().chain(FILES).map(|&file| file.to_owned()).collect();
    for seed in &seeds {
        let mut random = Random(*seed);
        files.extend((0..wanted / seeds.len()).map(|_| random.file()));
    }
    let answers = kubectl(&files);
    assert_eq!(answers.len(), files.len());
    let (mut differences, mut read, mut refused, mut twice) = (Vec::new(), 0, 0, 0);
    for (file, theirs) in files.iter().zip(&answers) {
        let (difference, is_twice) = compare(file, theirs);
        differences.extend(difference.map(|difference| format!("{file:?}\n{difference}")));
        twice += usize::from(is_twice);
        read += theirs["documents"].as_array().unwrap().len();
        refused += usize::from(theirs["error"] != "");
    }
    println!(
        "{} files, {read} documents read and {refused} refused by kubectl, {twice} refused here for a key given twice, {} differences",
        files.len(),
        differences.len()
    );
    differences.sort_by_key(String::len);
    assert!(differences.is_empty(), "{}", differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n\n"));
    assert!(read > wanted / 4 && refused > wanted / 8, "one-sided");
}
