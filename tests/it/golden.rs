//! Golden rulesets: manifests, the rendered nft text for node-1, and a table of flows with their verdicts.
//!
//! `UPDATE_EXPECT=1 cargo test --test it golden::` writes the nft text; read the difference before you commit it. The
//! flow tables are handwritten. Each verdict is checked twice: by `palisade trace`, and by walking the rendered
//! rulesets. The cases called `start-…` are the policies that users start from.
//!
//! `nft.rs` loads each text with nft, and `demo.rs` compares README.md's quotations of the demo's table.
//!
//! Seen to fail when: a table of flows had a wrong verdict; a rule of an expected text had another port; a page quoted a
//! rule with another comment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::input::{NamespacedName, Protocol, State};
use palisade_policy::reference::Reference;
use palisade_ruleset::cache::{self, Slice};
use palisade_ruleset::change::Operation;
use palisade_ruleset::text;
use palisade_testkit::difference::of_texts;
use palisade_testkit::walking::Nodes;

use crate::common::listing;

/// One line of a table of flows.
struct Row {
    from: String,
    to: String,
    protocol: String,
    port: Option<u16>,
    verdict: String,
}

pub(crate) fn cases() -> Vec<PathBuf> {
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
fn manifests_become_the_expected_nft_text() {
    let mut differences = Vec::new();
    for case in cases() {
        let input = case.join("input.yaml");
        let rendered = palisade(&["render", "-f", input.to_str().unwrap(), "--node", "node-1"]);
        let expect = case.join("expect.nft");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expect, &rendered).unwrap();
        }
        let expected = fs::read_to_string(&expect).unwrap();
        differences
            .extend(of_texts(&expected, &rendered).map(|difference| format!("{}:\n{difference}", expect.display())));
    }
    assert!(
        differences.is_empty(),
        "{} golden files differ (-) from what is rendered (+):\n{}\nIf that is right: \
         UPDATE_EXPECT=1 cargo test --test it golden::",
        differences.len(),
        differences.join("\n")
    );
}

#[test]
fn pages_quote_what_is_rendered() {
    let render = |input: &str| palisade(&["render", "-f", input, "--node", "node-1"]);
    let shop = render("docs/example/shop.yaml");
    let pages = [
        listing::difference("docs/ruleset.md", &with_stamp(&shop), |_| true),
        listing::difference("README.md", &shop, |command| command.contains("palisade render")),
    ];
    // The policy in docs/install.md, and a pod that it selects.
    let page = fs::read_to_string("docs/install.md").unwrap();
    let policy = page.split("<<'END'\n").find(|text| text.contains("name: nobody")).unwrap();
    let policy = policy.split("\nEND").next().unwrap().replace("name: nobody", "name: nobody, namespace: try");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: server, namespace: try, labels: {app: server}}\n\
               spec: {nodeName: node-1}\nstatus: {phase: Running, podIP: 10.42.1.2}\n";
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden-install.yaml");
    fs::write(&file, format!("{policy}\n---\n{pod}")).unwrap();
    let install = listing::difference("docs/install.md", &render(file.to_str().unwrap()), |_| true);
    let differences: Vec<String> = pages.into_iter().chain([install]).flatten().collect();
    assert!(
        differences.is_empty(),
        "quotations in pages (-) differ from the rendered text (+); correct them by hand:\n{}",
        differences.join("\n")
    );
}

/// The listing with the rules of the verdict cache, as an agent has them after six changes.
fn with_stamp(listing: &str) -> String {
    let seventh = (1..7).fold(Slice::default().first(), |stamp, _| stamp.next());
    cache::resume(seventh).operations.iter().fold(listing.to_owned(), |listing, operation| {
        let Operation::AppendRules(chain, rules) = operation else { panic!("{operation:?}") };
        let head = listing.find(&format!("chain {chain} {{")).expect("the chain");
        let end = head + listing[head..].find("\n\t}").expect("its end");
        let rules: Vec<_> = rules.iter().map(text::rule).collect();
        format!("{}\n\t\t{}{}", &listing[..end], rules.join("\n\t\t"), &listing[end..])
    })
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
            other => panic!("{other:?} is not a transport"),
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
