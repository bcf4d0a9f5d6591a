//! Golden rulesets: manifests, the nft text they become on node-1, and a table of flows with their verdicts.
//!
//! `UPDATE_EXPECT=1 cargo test --test it golden::` writes the nft text anew, to be read before it is committed; the flow tables
//! are written by hand. Each verdict is checked twice: by `palisade trace`, and by walking the rendered rulesets. The cases
//! called `start-…` are the policies that users start from.
//!
//! Seen to fail when: a table of flows had a wrong verdict; a rule of an expected text had another port.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::input::{NamespacedName, Protocol, State};
use palisade_policy::reference::Reference;
use palisade_testkit::walking::Nodes;

/// One line of a table of flows.
struct Row {
    from: String,
    to: String,
    protocol: String,
    port: Option<u16>,
    verdict: String,
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let mut cases: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 15, "the golden cases are gone");
    cases
}

fn palisade(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_palisade")).args(arguments).output().unwrap();
    // 1 is `trace`'s status if a flow is denied.
    let ended = matches!((arguments.first(), output.status.code()), (_, Some(0)) | (Some(&"trace"), Some(1)));
    assert!(ended, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rows(case: &Path) -> Vec<Row> {
    let text = fs::read_to_string(case.join("flows.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [from, to, protocol, port, verdict] = <[String; 5]>::try_from(words).expect("five columns");
        Row { from, to, protocol, port: port.parse().ok(), verdict }
    };
    lines.map(row).collect()
}

#[test]
fn manifests_become_the_expected_nft_text_and_nft_takes_it() {
    for case in cases() {
        let input = case.join("input.yaml");
        let rendered = palisade(&["render", "-f", input.to_str().unwrap(), "--node", "node-1"]);
        let expect = case.join("expect.nft");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expect, &rendered).unwrap();
        }
        let expected = fs::read_to_string(&expect).unwrap();
        assert!(rendered == expected, "{} differs:\n{rendered}", expect.display());
        let mut nft = Command::new("unshare");
        nft.args(["--net", "nft", "-c", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut nft = nft.spawn().expect("unshare from util-linux");
        nft.stdin.take().unwrap().write_all(expected.as_bytes()).unwrap();
        let output = nft.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {}", expect.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn trace_gives_the_verdicts_of_the_flow_tables() {
    for case in cases() {
        let rows = rows(&case);
        let line = |row: &Row| {
            let port = row.port.map(|port| format!(",\"port\":{port}")).unwrap_or_default();
            format!("{{\"from\":\"{}\",\"to\":\"{}\",\"protocol\":\"{}\"{port}}}\n", row.from, row.to, row.protocol)
        };
        let flows = std::env::temp_dir().join(format!("palisade-golden-{}", std::process::id()));
        fs::write(&flows, rows.iter().map(line).collect::<String>()).unwrap();
        let input = case.join("input.yaml");
        let (input, flows) = (input.to_str().unwrap(), flows.to_str().unwrap());
        let answers = palisade(&["trace", "-f", input, "--flows", flows, "-o", "json"]);
        fs::remove_file(flows).unwrap();
        let answers: Vec<serde_json::Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), rows.len());
        for (row, answer) in rows.iter().zip(answers) {
            assert_eq!(answer["verdict"], row.verdict, "{}: {} to {}: {answer}", case.display(), row.from, row.to);
        }
    }
}

#[test]
fn walking_the_rulesets_gives_the_verdicts_of_the_flow_tables() {
    for case in cases() {
        let state: State = palisade_watch::read_manifests(&[case.join("input.yaml")]).unwrap().into();
        let facts = NodeFacts::default();
        let (nodes, reference) = (Nodes::render(&state, &facts), Reference::new(&state, &facts));
        for row in rows(&case) {
            let flow = row.flow();
            let ends = reference.ends(&flow).unwrap();
            let ways = nodes.send(&flow, &ends).unwrap().unwrap();
            for way in ways {
                let steps = way.steps.join("\n");
                assert_eq!(
                    way.verdict.to_string(),
                    row.verdict,
                    "{}: {} to {}\n{steps}",
                    case.display(),
                    row.from,
                    row.to
                );
            }
        }
    }
}

impl Row {
    fn flow(&self) -> Flow {
        let transport = match (self.protocol.as_str(), self.port) {
            ("TCP", Some(port)) => Transport::Port(Protocol::Tcp, port),
            ("UDP", Some(port)) => Transport::Port(Protocol::Udp, port),
            ("SCTP", Some(port)) => Transport::Port(Protocol::Sctp, port),
            ("ICMP", None) => Transport::Portless,
            other => panic!("{other:?} is no transport"),
        };
        Flow { from: endpoint(&self.from), to: endpoint(&self.to), transport, family: None }
    }
}

fn endpoint(text: &str) -> Endpoint {
    if let Ok(address) = text.parse() {
        return Endpoint::Address(address);
    }
    match text.split_once('/').expect("an address, node/NAME or namespace/pod") {
        ("node", name) => Endpoint::Node(name.into()),
        (namespace, name) => Endpoint::Pod(NamespacedName::new(namespace, name)),
    }
}
