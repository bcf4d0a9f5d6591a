//! `palisade trace --untracked` and the kernel agree on untracked packets, between pods of a node and to the node.
//!
//! Seen to fail when: `trace` takes `drop` for `judge`, or `judge` for `drop`; the verdict leaves out the reply; the reply
//! has the request's ends.

use std::net::IpAddr;
use std::time::Duration;

use palisade_lab::{Flow, Lab, Layout, Listen, Pod, Protocol as LabProtocol, probe_all};
use palisade_ruleset::render::Options;
use serde_json::{Value, json};

use super::NOTRACK;
use crate::cli::place::Place;
use crate::common::driven::Driven;

/// Requests to port 53 and replies from it, of pods too.
const BETWEEN_PODS: &str = "table inet pods {
    chain prerouting { type filter hook prerouting priority raw; meta l4proto { tcp, udp } th sport 53 notrack; }
}";

/// Specs of policies, each with the flows that pass with `drop` and with `judge`: UDP, then TCP; of each to the server
/// and to the node, of each over IPv4 and IPv6.
const CASES: &[(&str, &str, [&str; 2])] = &[
    ("nobody isolated", "{podSelector: {matchLabels: {app: other}}}", ["++++ ++++", "++++ ++++"]),
    (
        "egress by ipBlock and port",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], \
          egress: [{to: [{ipBlock: {cidr: 10.42.0.0/16}}], ports: [{port: 53, protocol: UDP}]}]}",
        ["---- ----", "+-+- ----"],
    ),
    (
        "egress by port",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{ports: [{port: 53}]}]}",
        ["---- ----", "---- ++++"],
    ),
    (
        "egress to pods",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}",
        ["---- ----", "---- ----"],
    ),
    (
        "egress to everything",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{}]}",
        ["++++ ++++", "++++ ++++"],
    ),
    (
        "egress to every IPv4 address",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}",
        ["+-+- +-+-", "+-+- +-+-"],
    ),
    (
        "ingress from pods",
        "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 53}]}]}",
        ["--++ --++", "--++ --++"],
    ),
    (
        "ingress of UDP",
        "{podSelector: {matchLabels: {app: server}}, ingress: [{ports: [{protocol: UDP}]}]}",
        ["++++ --++", "++++ --++"],
    ),
    // The reply is judged like a request.
    (
        "the server's egress",
        "{podSelector: {matchLabels: {app: server}}, policyTypes: [Egress], egress: [{ports: [{port: 53}]}]}",
        ["--++ --++", "--++ --++"],
    ),
    (
        "the server's egress by ipBlock",
        "{podSelector: {matchLabels: {app: server}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.42.0.0/16}}]}]}",
        ["--++ --++", "+-++ +-++"],
    ),
    (
        "the client's ingress",
        "{podSelector: {matchLabels: {app: client}}, ingress: [{from: [{podSelector: {}}]}]}",
        ["--++ --++", "--++ --++"],
    ),
];

fn manifest(kind: &str, name: &str, spec: &str, status: &str) -> String {
    let version = if kind == "Pod" { "v1" } else { "networking.k8s.io/v1" };
    let metadata = format!("{{namespace: default, name: {name}, labels: {{app: {name}}}}}");
    format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n{status}")
}

fn pod(pod: &Pod, name: &str) -> String {
    let ips: Vec<_> = pod.addresses().iter().map(|address| format!("{{ip: '{address}'}}")).collect();
    let status = format!("status: {{phase: Running, hostIP: 172.30.0.11, podIPs: [{}]}}\n", ips.join(", "));
    manifest("Pod", name, "{nodeName: node-1}", &status)
}

/// `++-- +-+-`: one letter for each flow.
fn letters(passes: impl IntoIterator<Item = bool>) -> String {
    let letters: Vec<_> = passes.into_iter().map(|passes| if passes { '+' } else { '-' }).collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

#[test]
fn trace_and_the_kernel_agree_on_untracked_packets() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let [client, server] = ["default/client", "default/server"].map(|name| lab.node(1).add_pod(name).unwrap());
    lab.node(1).nft(NOTRACK).unwrap();
    lab.node(1).nft(BETWEEN_PODS).unwrap();
    let ports = [Listen::udp(53), Listen::tcp(53)];
    lab.node(1).serve(&ports).unwrap();
    server.serve(&ports).unwrap();
    let (four, six) = lab.node(1).gateway();
    let servers: Vec<IpAddr> = server.addresses().into_iter().chain([four.into(), six.into()]).collect();
    let flows = [LabProtocol::Udp, LabProtocol::Tcp].map(|protocol| servers.iter().map(move |to| (protocol, *to)));
    let flows: Vec<_> = flows.into_iter().flatten().collect();
    let asked: Vec<_> = flows
        .iter()
        .map(|(protocol, to)| {
            json!({ "from": "default/client", "to": to, "protocol": protocol.to_string(), "port": 53 }).to_string()
        })
        .collect();
    let probes: Vec<_> = flows.iter().map(|(protocol, to)| Flow::new(&client, *protocol, *to, 53)).collect();
    let objects = pod(&client, "client") + &pod(&server, "server");
    let mut enforcer = Driven::start(lab.node(1));
    for (name, spec, expected) in CASES {
        let place =
            Place::new("untracked", &[("all.yaml", &(objects.clone() + &manifest("NetworkPolicy", "only", spec, "")))]);
        let state = palisade_watch::read_manifests(&[place.0.join("all.yaml")]).unwrap().into();
        for (how, expected) in ["drop", "judge"].iter().zip(expected) {
            enforcer.turn_to(&state, &Options { judge_untracked: *how == "judge", ..Options::default() });
            let arrived = probe_all(&probes, Duration::from_secs(1)).unwrap();
            assert_eq!(letters(arrived.iter().map(|outcome| outcome.is_reachable())), *expected, "{name}: {how}");
            let command = format!(
                "trace -f all.yaml --untracked {how} --node-address node-1={four} --node-address node-1={six} --flows - -o json"
            );
            let answers = place.run_with(&command, &asked.join("\n")).out;
            let verdicts: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let told = letters(verdicts.iter().map(|answer| answer["verdict"] == "allow"));
            assert_eq!(told, *expected, "{name}: trace --untracked {how}: {answers}");
        }
    }
}
