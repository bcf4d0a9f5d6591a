//! Any text as a manifest gives a result, never a panic.

use std::path::PathBuf;

use palisade_watch::read_manifests;
use proptest::prelude::*;

const GOOD: &str = include_str!("../data/good.yaml");
const BAD: &str = include_str!("../data/bad.yaml");

/// Pieces with a meaning in YAML or to the decoder.
const PIECES: &[&str] = &[
    "---\n",
    "...\n",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "- ",
    ": ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "!!str ",
    "! ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "#",
    "%YAML 1.1\n",
    "~",
    "null",
    "on",
    "0x",
    "1e400",
    "99999999999999999999",
    "-",
    "::ffff:1.2.3.4/97",
    "/",
    "é",
    "\u{feff}",
    "\u{0}",
    "\u{2028}",
    "\u{10ffff}",
    "items:",
    "kind: List",
    "podSelector:",
    "matchExpressions:",
    "status: {podIPs: [{ip: ::}]}",
];

/// One edit: the place, as a fraction of the text; the number of bytes to drop; the replacement.
type Edit = (f64, usize, prop::sample::Index);

fn mutate(text: &str, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (place, dropped, piece) in edits {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a text"
        )]
        let start = (place * chars.len() as f64) as usize;
        let end = (start + dropped).min(chars.len());
        chars.splice(start..end, piece.get(PIECES).chars());
    }
    chars.into_iter().collect()
}

fn read(name: &str, text: &str) -> Result<(), String> {
    let path: PathBuf = std::env::temp_dir().join(format!("palisade-mutations-{}-{name}.yaml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let result = read_manifests(std::slice::from_ref(&path)).map(drop).map_err(|errors| errors.to_string());
    std::fs::remove_file(&path).unwrap();
    result
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn mutated_manifests_get_an_answer(
        bad in any::<bool>(),
        window in (0.0..1.0_f64, 1..60_usize),
        edits in prop::collection::vec((0.0..1.0_f64, 0..12_usize, any::<prop::sample::Index>()), 0..8),
    ) {
        let lines: Vec<&str> = (if bad { BAD } else { GOOD }).lines().collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a text")]
        let start = (window.0 * lines.len() as f64) as usize;
        let part = lines[start..(start + window.1).min(lines.len())].join("\n");
        let _answer = read("edited", &mutate(&part, &edits));
    }

    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}") {
        let _answer = read("any", &text);
    }

    #[test]
    fn an_error_always_says_something(
        edits in prop::collection::vec((0.0..1.0_f64, 0..12_usize, any::<prop::sample::Index>()), 1..8),
    ) {
        if let Err(message) = read("message", &mutate(GOOD, &edits)) {
            prop_assert!(!message.trim().is_empty());
            prop_assert!(message.lines().all(|line| line.contains(": ")), "{message}");
        }
    }
}
