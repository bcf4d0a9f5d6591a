//! `docs/install.md` is true: its commands are run as written, one after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::life::cluster::Cluster;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/install.md");

/// A command of the page, possibly with lines of input, and its output on the page.
#[derive(Default)]
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The steps in the blocks marked as console blocks.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut console, mut input) = (false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            console = line == "```console";
        } else if let (true, Some(command)) = (console, line.strip_prefix("$ ")) {
            input = command.contains("<<'END'");
            steps.push(Step { command: command.to_owned(), printed: Vec::new() });
        } else if let (true, Some(step)) = (console, steps.last_mut()) {
            if input {
                step.command = format!("{}\n{line}", step.command);
                input = line != "END";
            } else {
                step.printed.push(line.to_owned());
            }
        }
    }
    steps
}

/// Whether a line equals the page's, where `…` matches anything.
fn is_like(line: &str, written: &str) -> bool {
    let mut parts = written.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = first;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    rest.is_empty() || (written.contains('…') && last.is_empty())
}

/// Whether the lines equal the page's; a line of `…` alone matches any number of lines.
fn are_like(lines: &[&str], written: &[String]) -> bool {
    match (lines, written) {
        (_, [any, after @ ..]) if any == "…" => (0..=lines.len()).any(|skipped| are_like(&lines[skipped..], after)),
        ([line, lines @ ..], [like, written @ ..]) => is_like(line, like) && are_like(lines, written),
        (lines, written) => lines.is_empty() && written.is_empty(),
    }
}

/// A program in `directory` with this script.
fn program(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    // Commands in the script must not find it again.
    fs::write(&path, format!("#!/usr/bin/env bash\nPATH=${{PATH#*:}}\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn the_page_on_installing_prints_what_its_commands_print() {
    let cluster = Cluster::take();
    cluster.uninstall();
    cluster.kubectl(&["delete", "namespace", "--ignore-not-found", "--wait", "try"]);
    let steps = steps(&fs::read_to_string(PAGE).unwrap());
    assert!(steps.len() > 15, "the commands of the page are gone");

    let place = std::env::temp_dir().join(format!("palisade-manual-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"), place.join("manifests")).unwrap();
    let hack = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/cluster");
    program(&place, "kubectl", &format!("exec {hack} kubectl \"$@\""));
    // At the console of the server's current or former node.
    let node = "kubectl --namespace try get pod server --output jsonpath='{.spec.nodeName}' 2>/dev/null";
    let node = node.replace("kubectl", &format!("{hack} kubectl"));
    program(&place, "nft", &format!("node=$({node})\nexec {hack} on \"${{node:-node1}}\" nft \"$@\""));

    let marked = steps.iter().enumerate().map(|(at, step)| format!("echo '@@{at}'\n{}\n", step.command));
    let path = format!("{}:{}", place.display(), std::env::var("PATH").unwrap());
    let script = format!("exec 2>&1\n{}", marked.collect::<String>());
    let run = Command::new("bash").arg("-c").arg(script).current_dir(&place).env("PATH", path).output().unwrap();
    fs::remove_dir_all(&place).unwrap();
    let output = String::from_utf8_lossy(&run.stdout).into_owned();

    let mut printed: Vec<Vec<&str>> = Vec::new();
    for line in output.lines() {
        if line.starts_with("@@") {
            printed.push(Vec::new());
        } else {
            printed.last_mut().unwrap().push(line);
        }
    }
    assert_eq!(printed.len(), steps.len(), "{output}");
    for (step, lines) in steps.iter().zip(&printed) {
        let written = step.printed.join("\n");
        assert!(
            are_like(lines, &step.printed),
            "{}\nprinted:\n{}\nthe page says:\n{written}",
            step.command,
            lines.join("\n")
        );
    }
    println!("life: docs/install.md: {} commands, each printed what the page says", steps.len());
}
