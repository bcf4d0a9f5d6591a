//! `palisade check -o github`: each finding as a workflow command, which GitHub Actions shows at its line.
//!
//! Seen to fail when: a note is an error; a comma of a file is not escaped; stdin is a file.

use std::fs;

use super::{Found, SAMPLES, found, run, stderr, stdout};

/// What the runner reads: `::level key=value,…::message`, unescaped as `command.ts` of actions/toolkit documents.
fn read(line: &str) -> (Found, String) {
    let (head, message) = line.strip_prefix("::").unwrap().split_once("::").unwrap();
    let (level, properties) = head.split_once(' ').unwrap();
    let value = |name: &str| {
        let all = properties.split(',').map(|property| property.split_once('=').unwrap());
        let found = all.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)?;
        let text = found.replace("%3A", ":").replace("%2C", ",").replace("%0D", "\r").replace("%0A", "\n");
        Some(text.replace("%25", "%"))
    };
    let severity = if level == "notice" { "info" } else { level };
    let number = value("line").map_or(0, |line| line.parse().unwrap());
    let found = Found::new(&value("file").unwrap_or_default(), number, severity, &value("title").unwrap(), "-");
    (found, message.to_owned())
}

#[test]
fn every_finding_is_an_annotation_of_its_line() {
    let expected = found(&run(&["check", "-f", SAMPLES, "-o", "json"], ""));
    let output = run(&["check", "-f", SAMPLES, "-o", "github"], "");
    let read: Vec<_> = stdout(&output).lines().map(read).collect();
    assert_eq!(read.len(), expected.len());
    for ((found, message), expected) in read.iter().zip(&expected) {
        assert_eq!(*found, Found { field: String::new(), ..expected.clone() }, "{message}");
        assert!(message.starts_with(&expected.field) && !message.contains('\n'), "{message}");
    }
    let text = run(&["check", "-f", SAMPLES], "");
    assert_eq!((output.status.code(), stderr(&output)), (text.status.code(), stderr(&text)));
    let ignored = run(&["check", "-f", SAMPLES, "-o", "github", "--ignore", "null-value"], "");
    assert!(stdout(&output).contains("title=null-value::") && !stdout(&ignored).contains("title=null-value::"));
}

#[test]
fn a_file_with_any_name_is_found_and_stdin_is_none() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n\
                  spec: {podSelector: {}, ingress: [{from: null}]}\n";
    let directory = std::env::temp_dir().join(format!("palisade-github-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("100%,a:b.yaml");
    fs::write(&file, policy).unwrap();
    let output = run(&["check", "-f", file.to_str().unwrap(), "-o", "github"], "");
    let (found, _) = read(stdout(&output).lines().next().unwrap());
    assert_eq!((found.file.as_str(), found.line), (file.to_str().unwrap(), 4), "{}", stdout(&output));
    fs::remove_dir_all(&directory).unwrap();
    let output = run(&["check", "-f", "-", "-o", "github"], policy);
    let (found, message) = read(stdout(&output).lines().next().unwrap());
    assert_eq!((found.file.as_str(), found.line), ("", 0));
    assert!(message.starts_with("-: spec.ingress[0].from: "), "{message}");
}
