//! A port name towards an `ipBlock`: `check`, `trace` and the ruleset agree. Packets get the same verdict in the
//! conformance case `named-port-and-block`.
//!
//! Seen to fail when: `check` says that the name matches nothing, or checks the block and not its excepts; `trace`
//! allows the port number for every IP of the block.

use serde_json::Value;

use super::{run, stderr, stdout};

/// A client, and a server that declares port 8080 under this name.
fn objects(port: &str) -> String {
    let server = |name: &str, ip: &str, port: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, status: {{phase: Running, podIP: {ip}}}, \
             spec: {{nodeName: node1, containers: [{{ports: [{port}]}}]}}}}\n"
        )
    };
    [
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  policyTypes: [Egress]\n  \
         egress:\n  - to: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.9.0/24]}}]\n    \
         ports: [{port: http}, {port: 53, protocol: UDP}]\n",
        &server("client", "10.2.0.1", ""),
        &server("inside", "10.1.0.1", port),
        &server("nameless", "10.1.0.2", "{containerPort: 8080}"),
        &server("excepted", "10.1.9.1", "{containerPort: 8080, name: http}"),
        &server("outside", "10.2.0.2", "{containerPort: 8080, name: http}"),
    ]
    .concat()
}

fn verdict(objects: &str, to: &str) -> String {
    let flow = ["trace", "-f", "-", "--from", "default/client", "--to", to, "--port", "8080", "-o", "json"];
    let output = run(&flow, objects);
    assert_ne!(output.status.code(), Some(2), "{}", stderr(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer.get("verdict").and_then(Value::as_str).unwrap().to_owned()
}

#[test]
fn a_port_name_towards_a_block_is_that_of_its_pods() {
    for (port, inside) in [("{containerPort: 8080, name: http}", "allow"), ("{containerPort: 8080, name: web}", "deny")]
    {
        let objects = objects(port);
        assert_eq!(verdict(&objects, "default/inside"), inside);
        for other in ["default/nameless", "default/excepted", "default/outside", "10.1.0.3"] {
            assert_eq!(verdict(&objects, other), "deny", "{other}");
        }
        let rendered = run(&["render", "-f", "-", "--node", "node1"], &objects);
        assert_eq!(stdout(&rendered).contains("10.1.0.1 . 8080"), inside == "allow", "{}", stdout(&rendered));
        let checked = run(&["check", "-f", "-", "--whole-cluster"], &objects);
        assert_eq!(stdout(&checked).contains("named-port-undefined"), inside == "deny", "{}", stdout(&checked));
    }
    // A pod without an IP may get one of the block.
    let pending = objects("{containerPort: 8080, name: http}").replace(", podIP: 10.1.0.1", "");
    assert!(!stdout(&run(&["check", "-f", "-", "--whole-cluster"], &pending)).contains("named-port-undefined"));
}
