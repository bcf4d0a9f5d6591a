//! `palisade check`: every code, its location, every output format; and no findings on good policies.
//!
//! The manifests in `data/check/findings` have the expected findings in comments on their lines: `#! severity code
//! field`.
//!
//! Seen to fail when: each module of `src/check`, and each code in it, was left out; a selector that only hostNetwork
//! or finished pods match counted as one that matches nothing; labels of namespaces were judged without any Namespace;
//! policies were judged without any pod; ports of other protocols counted, or those of pods that declare none, or those
//! next to an ipBlock; a broader rule had a narrower range or podSelector; of two equal rules both were superfluous, or
//! of two equal policies; DNS allowed by another policy, or by a wrong one, or by port, did not count; DNS over TCP was
//! enough, or all except private addresses; a wrong policy was checked further; lines were those of objects, or of
//! values instead of keys; fields in Lists had no `items[…]`; two workloads of one name were one pod, a CronJob's
//! template was looked up where a Deployment's is, pods had no labels, ports without a name were missing; `render` read
//! workloads; `trace` mentioned an ipBlock with another port; an unreadable path was not status 2; only the first page
//! of a cluster's list was read.

mod blocks;
mod cluster;
mod controllers;
mod directories;
mod github;
mod part;
mod remedies;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A finding, without its message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    file: String,
    line: usize,
    severity: String,
    code: String,
    field: String,
}

impl Found {
    fn new(file: &str, line: usize, severity: &str, code: &str, field: &str) -> Self {
        let field = if field == "-" { "" } else { field };
        let [file, severity, code, field] = [file, severity, code, field].map(str::to_owned);
        Self { file, line, severity, code, field }
    }

    fn read(finding: &Value) -> Self {
        let text = |key: &str| finding[key].as_str().unwrap();
        let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
        assert!(!text("message").is_empty());
        Self::new(text("file"), line, text("severity"), text("code"), text("field"))
    }
}

/// The codes that only objects of a cluster can have.
const OF_CLUSTERS: &str = "unenforceable-term";

fn run(arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("KUBECONFIG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It need not read all of it.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn findings(output: &Output) -> Vec<Value> {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn found(output: &Output) -> Vec<Found> {
    findings(output).iter().map(Found::read).collect()
}

fn files(directory: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap();
    let mut all: Vec<_> = all.map(|entry| Path::new(directory).join(entry.unwrap().file_name())).collect();
    all.sort();
    all
}

fn read(file: &Path) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

const SAMPLES: &str = "tests/data/check/findings";
const CLEAN: &str = "tests/data/check/clean";

/// The findings in the samples' comments.
fn expected() -> Vec<Found> {
    let mut expected = Vec::new();
    for file in files(SAMPLES) {
        for (index, line) in read(&file).lines().enumerate() {
            for comment in line.split("#! ").skip(1) {
                let words: Vec<_> = comment.split_whitespace().collect();
                if let [severity @ ("error" | "warning" | "info"), code, field] = words.as_slice() {
                    expected.push(Found::new(file.to_str().unwrap(), index + 1, severity, code, field));
                }
            }
        }
    }
    // JSON has no comments.
    let in_json = format!("{SAMPLES}/objects.json");
    expected.push(Found::new(&in_json, 9, "error", "unknown-field", "items[0].spec.podSelector.matchLabel"));
    expected.sort();
    expected
}

fn codes() -> BTreeSet<String> {
    let document = include_str!("../../docs/check.md");
    let (_, codes) = document.split_once("## Codes").unwrap();
    codes
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code.to_owned())
        .collect()
}

#[test]
fn every_kind_is_found_where_it_is_written() {
    let output = run(&["check", "-f", SAMPLES, "-o", "json"], "");
    let mut all = found(&output);
    all.sort();
    let expected = expected();
    assert_same(&expected, &all);
    assert_eq!(all.len(), expected.len(), "something is found twice");
    assert_eq!(output.status.code(), Some(1));
}

/// Compares the samples with docs/check.md, so a mistake in the checks fails only the test above.
#[test]
fn every_documented_code_has_a_sample() {
    let mut sampled: BTreeSet<_> = expected().into_iter().map(|found| found.code).collect();
    sampled.insert(OF_CLUSTERS.to_owned());
    assert_same(&codes(), &sampled);
}

/// Fails with the missing and the surplus items, not with both lists.
fn assert_same<'a, T: PartialEq + std::fmt::Debug + 'a>(
    expected: impl IntoIterator<Item = &'a T>,
    found: impl IntoIterator<Item = &'a T>,
) {
    let (expected, found) = (Vec::from_iter(expected), Vec::from_iter(found));
    let missing: Vec<_> = expected.iter().filter(|one| !found.contains(one)).collect();
    let too_much: Vec<_> = found.iter().filter(|one| !expected.contains(one)).collect();
    assert!(missing.is_empty() && too_much.is_empty(), "missing: {missing:#?}\ntoo much: {too_much:#?}");
}

#[test]
fn messages_say_what_was_meant() {
    let output = run(&["check", "-f", SAMPLES, "-o", "json"], "");
    let all = findings(&output);
    for (field, part) in [
        ("spec.podSelector.matchLabel", "did you mean matchLabels?"),
        ("spec.Ingress", "did you mean ingress?"),
        ("spec.policyTypes[0]", "write `- Ingress`"),
        ("spec.namespaceSelector", "pods of its own namespace only"),
        ("spec.ingress[0].ports[0].protocol", "did you mean TCP?"),
        ("spec.ingress[0].ports[7].port", "add protocol: UDP"),
        ("spec.ingress[0].ports[8].port", "did you mean http?"),
        ("spec.ingress[0].ports[4].port", "they declare TCP 8080, TCP 9090 and UDP 8125"),
        ("spec.ingress[0].from[3].podSelector", "did you mean app=web?"),
        ("spec.ingress[0].from[4].podSelector", "such pods are in effect"),
        ("spec.podSelector", "did you mean namespace shop?"),
        ("spec.egress", "names/local may open"),
    ] {
        let is_it = |found: &Value| found["field"] == field && found["message"].as_str().unwrap().contains(part);
        assert!(all.iter().any(is_it), "{field}: {part}");
    }
}

#[test]
fn json_has_exactly_the_documented_fields() {
    let output = run(&["check", "-f", SAMPLES, "-o", "json"], "");
    for finding in findings(&output) {
        let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        let mut keys = BTreeSet::from_iter(keys);
        // Only for findings that have a mechanical remedy.
        keys.remove("remedy");
        assert_eq!(keys, BTreeSet::from(["file", "line", "field", "severity", "code", "message"]));
    }
    // One finding per line, for grep.
    assert_eq!(stdout(&output).lines().count(), findings(&output).len() + 2);
}

#[test]
fn text_for_people() {
    let output = run(&["check", "-f", SAMPLES], "");
    let text = stdout(&output);
    let line = format!("{SAMPLES}/shape.yaml:40: error[unknown-field] spec.podSelector.matchLabel: ");
    let (_, rest) = text.split_once(&line).unwrap();
    assert_eq!(rest.lines().nth(1), Some("    did you mean matchLabels?"));
    assert!(
        text.contains(&format!("{SAMPLES}/shape.yaml:73: error[written-twice] NetworkPolicy shape/twice")),
        "{text}"
    );
    let printed = found(&run(&["check", "-f", SAMPLES, "-o", "json"], ""));
    let count = |severity: &str| printed.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings, notes) = (count("error"), count("warning"), count("info"));
    assert_eq!(stderr(&output), format!("{errors} errors, {warnings} warnings, {notes} notes\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn sarif_for_review() {
    let in_json = found(&run(&["check", "-f", SAMPLES, "-o", "json"], ""));
    let output = run(&["check", "-f", SAMPLES, "-o", "sarif"], "");
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let [run] = log["runs"].as_array().unwrap().as_slice() else { panic!("one run") };
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "palisade");
    let rules = driver["rules"].as_array().unwrap();
    let ids: BTreeSet<_> = rules.iter().map(|rule| rule["id"].as_str().unwrap().to_owned()).collect();
    assert_same(&codes(), &ids);
    assert_eq!(rules.len(), ids.len());
    for rule in rules {
        assert!(rule["shortDescription"]["text"].is_string() && rule["help"]["text"].is_string());
    }
    let mut all = Vec::new();
    for result in run["results"].as_array().unwrap() {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(result["ruleId"], rule["id"]);
        assert_eq!(result["level"], rule["defaultConfiguration"]["level"]);
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let location = &result["locations"][0];
        let field = location["logicalLocations"][0]["fullyQualifiedName"].as_str().unwrap_or("-");
        let place = &location["physicalLocation"];
        let line = place["region"]["startLine"].as_u64().unwrap().try_into().unwrap();
        let severity = if result["level"] == "note" { "info" } else { result["level"].as_str().unwrap() };
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        all.push(Found::new(uri, line, severity, result["ruleId"].as_str().unwrap(), field));
    }
    assert_eq!(all, in_json);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn silent_on_the_policies_that_users_start_from() {
    let output = run(&["check", "-f", CLEAN], "");
    assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(0), "", ""));
    let output = run(&["check", "-f", CLEAN, "-o", "json"], "");
    assert_eq!((output.status.code(), findings(&output)), (Some(0), vec![]));
    let output = run(&["check", "-f", CLEAN, "-o", "sarif"], "");
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &log["runs"][0]["results"]), (Some(0), &json!([])));
}

/// Policies are often kept in other files than workloads.
#[test]
fn silent_on_policies_without_pods() {
    let mut seen = 0;
    for file in files(CLEAN) {
        let text = read(&file);
        let policies: Vec<_> =
            text.split("---\n").filter(|document| document.contains("kind: NetworkPolicy\n")).collect();
        seen += policies.len();
        let output = run(&["check", "-f", "-"], &policies.join("---\n"));
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), ""), "{}", file.display());
    }
    assert!(seen >= 11, "{seen}");
}

#[test]
fn without_namespaces_labels_of_namespaces_are_unknown() {
    let policy = |label: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, labels: {{app: a}}}}}}\n---\n\
             {{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p}}, spec: {{podSelector: {{}}, \
             ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{{label}}}}}}}]}}]}}}}\n"
        )
    };
    let output = run(&["check", "-f", "-", "-o", "json", "--whole-cluster"], &policy("env: prod"));
    assert_eq!(found(&output), []);
    // Of an application, not even the names are known.
    let output = run(&["check", "-f", "-", "-o", "json"], &policy("kubernetes.io/metadata.name: defautl"));
    assert_eq!(found(&output), []);
    let arguments = ["check", "-f", "-", "-o", "json", "--whole-cluster"];
    let output = run(&arguments, &policy("kubernetes.io/metadata.name: defautl"));
    let field = "spec.ingress[0].from[0].namespaceSelector";
    assert_eq!(found(&output), [Found::new("-", 3, "warning", "peer-selects-no-namespaces", field)]);
    assert!(stdout(&output).contains("did you mean kubernetes.io/metadata.name=default?"), "{}", stdout(&output));
}

/// A wrong policy is not in force, but it was meant to select and to allow.
#[test]
fn a_wrong_policy_has_no_consequences() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {app: a}}}\n---\n\
                {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {podSelector: {}, \
                policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}}\n---\n\
                {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: q}, spec: {podSelector: {}, \
                policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: udp}]}]}}\n";
    let output = run(&["check", "-f", "-", "-o", "json"], text);
    let field = "spec.egress[0].ports[0].protocol";
    assert_eq!(found(&output), [Found::new("-", 5, "error", "invalid-value", field)]);
}

#[test]
fn an_unreadable_file_is_status_2() {
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-empty");
    fs::create_dir_all(&empty).unwrap();
    for (arguments, part) in [
        (&["-f", "no/such/path"][..], "no/such/path: cannot be read"),
        (&["-f", empty.to_str().unwrap()], "holds no .yaml"),
        (&["-f"], "a value is required"),
        (&["-f", CLEAN, "--kubeconfig", "x"], "cannot be used with"),
        (&["-f", CLEAN, "-o", "xml"], "invalid value"),
        (&["--kubeconfig", "no/such/file"], "no/such/file"),
    ] {
        let output = run(&[&["check"], arguments].concat(), "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
    }
    // Readable files are checked anyway.
    let output = run(&["check", "-o", "json", "-f", "no/such/path", SAMPLES], "");
    let alone = run(&["check", "-o", "json", "-f", SAMPLES], "");
    assert_eq!((output.status.code(), found(&output)), (Some(2), found(&alone)));
}

#[test]
fn the_exit_status_follows_the_severity_and_codes_can_be_left_out() {
    let note = "{apiVersion: v1, kind: Pod, metadata: {name: a}}";
    let warning = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: \
                   {podSelector: {}, policyTypes: [Ingress], egress: [{}]}}";
    let error = "{apiVersion: v1, kind: Pod, metadata: {name: A}}";
    for (text, by_level) in [
        (note, [Some(1), Some(0), Some(0), Some(0)]),
        (warning, [Some(1), Some(1), Some(0), Some(0)]),
        (error, [Some(1), Some(1), Some(1), Some(0)]),
    ] {
        let levels = ["note", "warning", "error", "never"];
        let found = levels.map(|level| run(&["check", "-f", "-", "--fail-on", level], text));
        assert_eq!(found.each_ref().map(|output| output.status.code()), by_level, "{text}");
        assert!(found.iter().all(|output| !output.stdout.is_empty()), "findings are printed anyway");
        assert_eq!(run(&["check", "-f", "-"], text).status.code(), by_level[1], "by default as a warning");
    }
    let ignoring = ["check", "-f", "-", "--ignore", "rules-without-policy-type", "--ignore", "unselected-pods"];
    let output = run(&ignoring, &format!("{note}\n---\n{warning}"));
    assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(0), "", ""));
    let output = run(&["check", "-f", "-", "--ignore", "no-dnss"], note);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean no-dns?"), "{}", stderr(&output));
}

#[test]
fn workloads_are_judged_but_not_enforced() {
    let sample = format!("{CLEAN}/frontend.yaml");
    let trace = |from: &str, to: &str| {
        let output = run(&["trace", "-f", &sample, "--from", from, "--to", to, "--port", "80", "-o", "json"], "");
        assert_eq!(stderr(&output), "");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(trace("tiers/backend", "tiers/frontend"), "allow");
    assert_eq!(trace("tiers/frontend", "tiers/backend"), "deny");
    // A pod without an IP cannot be checked against a block.
    let blocks = "{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n\
                  {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: b}, spec: {template: {spec: {}}}}\n---\n\
                  {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {podSelector: {}, \
                  ingress: [{ports: [{port: 1}], from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}}\n";
    for (port, is_reported) in [("1", true), ("2", false)] {
        let output = run(&["trace", "-f", "-", "--from", "default/a", "--to", "default/b", "--port", port], blocks);
        let text = stdout(&output);
        assert!(text.starts_with("deny"), "{text}");
        assert_eq!(
            text.contains("ingress[0] of policy default/p has an ipBlock, which was not judged"),
            is_reported,
            "{text}"
        );
    }
    let pinned = read(Path::new(&sample)).replace("spec: {containers", "spec: {nodeName: n, containers");
    assert!(pinned.contains("nodeName"));
    let output = run(&["render", "-f", "-", "--node", "n"], &pinned);
    assert!(output.status.success());
    assert!(!stdout(&output).contains("tiers"), "{}", stdout(&output));
}
