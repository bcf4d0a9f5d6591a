//! The API-server fixture against the real programs.
//!
//! Seen to fail when: the watcher in `process.rs` does not kill; the remover does not
//! run; `stop_apiserver` leaves the server running; `--authorization-mode` is fixed;
//! `delete_namespace` skips the finalizers; the launcher is not used.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::{Lab, Layout};
use palisade_testkit::apiserver::{ApiServer, Authorization, Error, namespace_path, network_policy_path, pod_path};
use serde_json::{Value, json};

#[test]
fn objects_are_kept() {
    let server = ApiServer::shared();
    let namespace = server.unique_namespace("kept").unwrap();
    let addresses: [IpAddr; 2] = ["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
    server.create_pod(&namespace, "web", "node1", &json!({"app": "web"})).unwrap();
    server.set_pod_running(&namespace, "web", &addresses).unwrap();
    server.label(&pod_path(&namespace, "web"), &json!({"app": null, "tier": "back"})).unwrap();

    let pod = server.get(&pod_path(&namespace, "web")).unwrap();
    assert_eq!(pod["spec"]["nodeName"], "node1");
    assert_eq!(pod["metadata"]["labels"], json!({"tier": "back"}));
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "10.1.0.5");
    assert_eq!(pod["status"]["podIPs"], json!([{"ip": "10.1.0.5"}, {"ip": "fd00::5"}]));

    server.delete(&pod_path(&namespace, "web")).unwrap();
    let error = server.get(&pod_path(&namespace, "web")).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 404, .. }), "{error}");
}

#[test]
fn manifests_are_applied_and_defaulted() {
    let server = ApiServer::shared();
    let namespace = server.unique_namespace("applied").unwrap();
    server
        .apply(&format!(
            "apiVersion: networking.k8s.io/v1\n\
             kind: NetworkPolicy\n\
             metadata: {{name: deny, namespace: {namespace}}}\n\
             spec: {{podSelector: {{}}}}\n"
        ))
        .unwrap();
    let path = network_policy_path(&namespace, "deny");
    let policy = server.get(&path).unwrap();
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));

    let mut egress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
    });
    server.apply_object(&egress).unwrap();
    assert_eq!(server.get(&path).unwrap()["spec"]["policyTypes"], json!(["Egress"]));
    egress["spec"]["policyTypes"] = json!(["Sideways"]);
    let error = server.apply_object(&egress).unwrap_err();
    assert!(error.to_string().contains("Sideways"), "{error}");

    let listed = server.kubectl(&["get", "networkpolicies", "-n", &namespace, "-o", "name"]).unwrap();
    assert_eq!(listed, "networkpolicy.networking.k8s.io/deny\n");
    let error = server.kubectl(&["get", "pod", "nobody", "-n", &namespace]).unwrap_err();
    assert!(error.to_string().contains("\"nobody\" not found"), "{error}");
}

#[test]
fn a_deleted_namespace_is_gone_with_its_objects() {
    let server = ApiServer::shared();
    let namespace = server.unique_namespace("gone").unwrap();
    server.create_pod(&namespace, "web", "node1", &json!({})).unwrap();
    server.delete_namespace(&namespace).unwrap();
    for path in [namespace_path(&namespace), pod_path(&namespace, "web")] {
        let error = server.get(&path).unwrap_err();
        assert!(matches!(error, Error::Refused { status: 404, .. }), "{error}");
    }
}

#[test]
fn a_thousand_requests_take_seconds() {
    let server = ApiServer::shared();
    let namespace = server.unique_namespace("many").unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        for worker in 0..4 {
            let namespace = &namespace;
            scope.spawn(move || {
                for number in 0..125_u8 {
                    let name = format!("pod-{worker}-{number}");
                    let address = IpAddr::from([10, 2, worker, number]);
                    server.create_pod(namespace, &name, "node1", &json!({})).unwrap();
                    server.set_pod_running(namespace, &name, &[address]).unwrap();
                }
            });
        }
    });
    // About 2 s alone on two cores.
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    let pods = server.get(&format!("/api/v1/namespaces/{namespace}/pods")).unwrap();
    assert_eq!(pods["items"].as_array().map(Vec::len), Some(500));
}

#[test]
fn an_outage_keeps_objects_and_roles_decide() {
    let agent = "system:serviceaccount:kube-system:palisade";
    let server = ApiServer::builder()
        .authorization(Authorization::Rbac)
        .user(agent, &["system:serviceaccounts"])
        .start()
        .unwrap();
    let namespace = server.unique_namespace("outage").unwrap();
    let url = server.url();
    server.stop_apiserver();
    assert!(server.get("/readyz").is_err(), "it answers while stopped");
    server.start_apiserver().unwrap();
    assert_eq!(server.url(), url);
    server.get(&namespace_path(&namespace)).unwrap();

    let kubeconfig = server.kubeconfig_of(agent).display().to_string();
    let list = ["--kubeconfig", &kubeconfig, "get", "pods", "-A"];
    let error = server.kubectl(&list).unwrap_err();
    assert!(error.to_string().contains("Forbidden"), "{error}");
    server
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1\n\
             kind: ClusterRole\n\
             metadata: {name: pods}\n\
             rules: [{apiGroups: [''], resources: [pods], verbs: [get, list, watch]}]\n\
             ---\n\
             apiVersion: rbac.authorization.k8s.io/v1\n\
             kind: ClusterRoleBinding\n\
             metadata: {name: pods}\n\
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: pods}\n\
             subjects: [{kind: ServiceAccount, name: palisade, namespace: kube-system}]\n",
        )
        .unwrap();
    // The authorizer learns of the role a moment later.
    eventually("the role is in force", || server.kubectl(&list).is_ok());

    let directory = server.directory().to_owned();
    drop(server);
    assert!(!directory.exists(), "{} is left", directory.display());
}

/// Next to a lab's nodes: a node's agent reaches it, and this process does not.
#[test]
fn runs_in_another_network_namespace() {
    let lab = Lab::builder().nodes(1, Layout::Bridge).build().unwrap();
    let address: IpAddr = "203.0.113.7".parse().unwrap();
    let host = lab.add_host("control-plane", &[address]).unwrap();
    let server = ApiServer::builder()
        .launcher(move |command| host.namespace().run(|| command.spawn()).map_err(io::Error::other)?)
        .address(address)
        .start()
        .unwrap();
    let namespace = server.unique_namespace("elsewhere").unwrap();
    let listed = server.kubectl(&["get", "namespace", &namespace, "-o", "name"]).unwrap();
    assert_eq!(listed, format!("namespace/{namespace}\n"));

    let authority = server.url().replace("https://", "");
    let connect = || TcpStream::connect_timeout(&authority.parse().unwrap(), Duration::from_secs(5));
    lab.node(1).run(connect).unwrap().unwrap();
    connect().unwrap_err();
}

/// Starts the server in a process that is then killed.
#[test]
fn nothing_outlives_a_killed_process() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "apiserver::only_when_asked", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let directory = loop {
        let line = lines.next().unwrap().unwrap();
        // The test runner writes its own text before ours, on the same line.
        if let Some((_, directory)) = line.split_once("directory=") {
            break directory.to_owned();
        }
    };
    assert_eq!(mentioning(&directory).len(), 3 + 3 + 1, "processes");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the processes end", || mentioning(&directory).is_empty());
    eventually("the directory goes", || !Path::new(&directory).exists());
}

#[test]
#[ignore = "nothing_outlives_a_killed_process runs it"]
fn only_when_asked() {
    let server = ApiServer::builder().start().unwrap();
    println!("directory={}", server.directory().display());
    thread::park();
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that name the directory in their command line, and their watchers.
fn mentioning(directory: &str) -> Vec<Value> {
    let of = |file: &str, pid: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let pids: Vec<String> = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    let line = |pid: &String| String::from_utf8_lossy(&of("cmdline", pid)).into_owned();
    let named: Vec<&String> = pids.iter().filter(|pid| line(pid).contains(directory)).collect();
    let watchers = pids.iter().filter(|pid| {
        let command = line(pid);
        command.contains("\0watcher\0") && named.iter().any(|named| command.ends_with(&format!("\0{named}\0")))
    });
    named.iter().copied().chain(watchers).map(|pid| json!(line(pid))).collect()
}
