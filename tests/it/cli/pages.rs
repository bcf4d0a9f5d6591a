//! The pages that answer a question show what their commands print.
//!
//! `UPDATE_EXPECT=1` writes what they print into the pages; read it before you commit it.
//!
//! Seen to fail when: a page has another line; a command of a page fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use palisade_testkit::difference::of_texts;

use crate::cli::place::PALISADE;

const PAGES: [&str; 6] = [
    "README.md",
    "docs/why-denied.md",
    "docs/who-may-talk.md",
    "docs/what-changes.md",
    "docs/default-deny.md",
    "docs/json.md",
];

/// The page with what its commands print now, and how many it has. A block with a line `…` quotes a part; others check it.
fn run_again(page: &str) -> (String, usize) {
    let (mut text, mut commands) = (String::new(), 0);
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text.extend([line, "\n"]);
        if line != "```console" {
            continue;
        }
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let runs = block.iter().filter_map(|line| line.strip_prefix("$ palisade ")).collect::<Vec<_>>();
        if runs.is_empty() || block.contains(&"…") {
            text.extend(block.iter().flat_map(|line| [*line, "\n"]));
        } else {
            runs.iter().for_each(|run| text.extend(["$ palisade ", run, "\n", &printed(run)]));
            commands += runs.len();
        }
        text.push_str("```\n");
    }
    (text, commands)
}

/// What a command of a page prints, run at the top of the repository.
fn printed(arguments: &str) -> String {
    let mut command = Command::new(PALISADE);
    command.args(arguments.split(' ')).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("KUBECONFIG");
    let output = command.output().unwrap();
    let status = output.status.code();
    assert!(matches!(status, Some(0 | 1)), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_pages_show_what_their_commands_print() {
    for page in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let written = fs::read_to_string(&path).unwrap();
        let (now, commands) = run_again(&written);
        assert!(commands > 0, "{page} runs nothing");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, now).unwrap();
        } else if let Some(difference) = of_texts(&written, &now) {
            panic!("{page}:\n{difference}");
        }
    }
}
