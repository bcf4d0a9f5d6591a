//! Objects of a cluster: of a real API server, and objects that only an older one accepted.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use palisade_testkit::apiserver::{ApiServer, namespace_path};
use serde_json::{Value, json};

use super::{Found, OF_CLUSTERS, found, run, stderr, stdout};

/// A namespace with every mistake that a server accepts.
#[test]
fn a_cluster_is_checked() {
    let api = ApiServer::shared();
    let namespace = api.unique_namespace("check").unwrap();
    let annotations = json!({"net.beta.kubernetes.io/network-policy": "{}"});
    api.patch(&namespace_path(&namespace), &json!({"metadata": {"annotations": annotations}})).unwrap();
    api.create_pod(&namespace, "web", "node-1", &json!({"app": "web"})).unwrap();
    api.create_pod(&namespace, "open", "node-1", &json!({"app": "open"})).unwrap();
    api.apply(&format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: {namespace}}}\n\
         spec: {{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Ingress], egress: [{{}}], \
         ingress: [{{from: [{{podSelector: {{matchLabels: {{app: nobody}}}}}}]}}]}}\n"
    ))
    .unwrap();
    let kubeconfig = api.kubeconfig();
    let output = run(&["check", "--kubeconfig", kubeconfig.to_str().unwrap(), "-o", "json"], "");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let mut here: Vec<_> = found(&output).into_iter().filter(|found| found.file.contains(&namespace)).collect();
    here.sort();
    let (policy, object) = (format!("networkpolicies/{namespace}/web"), format!("namespaces/{namespace}"));
    let annotation = "metadata.annotations[net.beta.kubernetes.io/network-policy]";
    let peer = "spec.ingress[0].from[0].podSelector";
    let mut expected = [
        Found::new(&object, 0, "info", "unselected-pods", "-"),
        Found::new(&object, 0, "warning", "legacy-annotation", annotation),
        Found::new(&policy, 0, "warning", "peer-selects-no-pods", peer),
        Found::new(&policy, 0, "warning", "rules-without-policy-type", "spec.egress"),
    ];
    expected.sort();
    assert_eq!(here, expected);
    let output = run(&["check", "--kubeconfig", kubeconfig.to_str().unwrap()], "");
    assert!(
        stdout(&output).contains(&format!("{policy}: warning[peer-selects-no-pods] {peer}: ")),
        "{}",
        stdout(&output)
    );
    let output = run(&["check", "--kubeconfig", kubeconfig.to_str().unwrap(), "-o", "sarif"], "");
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = log["runs"][0]["results"].as_array().unwrap().iter().map(|result| &result["locations"][0]);
    let mut names = names.map(|location| location["logicalLocations"][0]["fullyQualifiedName"].as_str().unwrap());
    assert!(names.any(|name| name == format!("{policy}/{peer}")));
}

/// Objects that only an older server accepted, in lists of several pages.
#[test]
fn old_objects_of_a_cluster_are_checked() {
    let block = json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16"]});
    let old = json!({"cidr": "010.0.0.5/8"});
    let bad = json!({"cidr": "10.0.0.0/99"});
    let from: Vec<_> = [block, old, bad].map(|block| json!({"ipBlock": block})).into();
    let policy = json!({"metadata": {"name": "old", "namespace": "a"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": from}]}});
    let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "a"}, "spec": {}});
    let url = serve(move |path| {
        let page = |items: Value, next: &str| Some(json!({"metadata": {"continue": next}, "items": items}));
        match path.split('?').next().unwrap() {
            "/api/v1/namespaces" => page(json!([{"metadata": {"name": "a"}}]), ""),
            "/api/v1/pods" if path.contains("continue=more") => page(json!([pod("second")]), ""),
            "/api/v1/pods" => page(json!([pod("first")]), "more"),
            "/apis/networking.k8s.io/v1/networkpolicies" => page(json!([policy]), ""),
            _ => None,
        }
    });
    let output = run(&["check", "--kubeconfig", &kubeconfig("old", &url), "-o", "json"], "");
    let file = "networkpolicies/a/old";
    let except = "spec.ingress[0].from[0].ipBlock.except";
    let expected = [
        Found::new(file, 0, "error", "except-outside-cidr", &format!("{except}[0]")),
        Found::new(file, 0, "error", "except-outside-cidr", &format!("{except}[2]")),
        Found::new(file, 0, "warning", OF_CLUSTERS, "spec.ingress[0].from[2].ipBlock.cidr"),
        Found::new(file, 0, "warning", "legacy-cidr", "spec.ingress[0].from[1].ipBlock.cidr"),
    ];
    assert_eq!(found(&output), expected, "{}", stderr(&output));

    // Both pods exist: without the policy, both are open.
    let url = serve(move |path| {
        let next = if path.contains("continue=more") { "" } else { "more" };
        let name = if next.is_empty() { "second" } else { "first" };
        let items = if path.starts_with("/api/v1/pods") { vec![pod(name)] } else { vec![] };
        Some(json!({"metadata": {"continue": next}, "items": items}))
    });
    let output = run(&["check", "--kubeconfig", &kubeconfig("pages", &url), "-o", "json"], "");
    assert!(stdout(&output).contains("a/first and a/second"), "{}", stdout(&output));

    let url = serve(|_| None);
    let output = run(&["check", "--kubeconfig", &kubeconfig("refused", &url)], "");
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
    assert!(stderr(&output).contains("cannot list the cluster's namespaces"), "{}", stderr(&output));
}

/// Answers requests on loopback until the test ends; without an answer it responds 403.
fn serve(answer: impl Fn(&str) -> Option<Value> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let request = lines.next().unwrap();
            lines.find(String::is_empty).unwrap();
            let body = answer(request.split(' ').nth(1).unwrap());
            let status = if body.is_some() { "200 OK" } else { "403 Forbidden" };
            let forbidden =
                json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403});
            let body = body.unwrap_or(forbidden).to_string();
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
            write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    url
}

fn kubeconfig(name: &str, url: &str) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("check-{name}.kubeconfig"));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    fs::write(&file, config.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// With a namespace on the command line, only that is reported on; a context is that of the kubeconfig, from the
/// command line or from the environment. Pods of other namespaces are still peers.
#[test]
fn one_namespace_of_one_context_is_reported_on() {
    let pod = |namespace: &str| json!({"metadata": {"name": "open", "namespace": namespace}, "spec": {}});
    let url = serve(move |path| {
        let items = match path.split('?').next().unwrap() {
            "/api/v1/namespaces" => json!([{"metadata": {"name": "a"}}, {"metadata": {"name": "ab"}}]),
            "/api/v1/pods" => json!([pod("a"), pod("ab")]),
            _ => json!([]),
        };
        Some(json!({"metadata": {}, "items": items}))
    });
    let file = kubeconfig("context", &url);
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["current-context"] = "nowhere".into();
    fs::write(&file, config.to_string()).unwrap();
    let check = |arguments: &[&str]| {
        run(&[&["check", "-o", "json", "--fail-on", "note", "--kubeconfig", &file], arguments].concat(), "")
    };
    let files = |arguments: &[&str]| {
        let output = check(&[&["--context", "c"], arguments].concat());
        let files: Vec<_> = found(&output).into_iter().map(|found| found.file).collect();
        (output.status.code(), files)
    };
    let (one, other) = ("namespaces/a".to_owned(), "namespaces/ab".to_owned());
    assert_eq!(files(&[]), (Some(1), vec![one.clone(), other.clone()]));
    assert_eq!(files(&["--all-namespaces"]), (Some(1), vec![one.clone(), other]));
    assert_eq!(files(&["-n", "a"]), (Some(1), vec![one.clone()]));
    assert_eq!(files(&["-n", "b"]), (Some(0), vec![]));
    assert_eq!(check(&[]).status.code(), Some(2), "its current context does not exist");
    let palisade = Command::new(env!("CARGO_BIN_EXE_palisade"))
        .args(["check", "-o", "json", "--fail-on", "note", "--context", "c", "-n", "a"])
        .env("KUBECONFIG", &file)
        .output()
        .unwrap();
    assert_eq!(found(&palisade).into_iter().map(|found| found.file).collect::<Vec<_>>(), [one]);
}
