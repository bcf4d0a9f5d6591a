//! The verbs that answer questions, on a cluster: a real API server answers as manifests of the same objects do, and
//! what cannot be read ends with 2 and says where, what and what to do.
//!
//! Seen to fail when: EndpointSlices of a cluster were not read; `diff --live` took the cluster for both sides; a refused
//! list of Services was silent; a list had no deadline; errors did not name the server.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use palisade_testkit::apiserver::{ApiServer, Authorization};
use serde_json::{Value, json};

use super::place::{Ended, PALISADE, Place};

/// The longest that a verb may take to say that it cannot read: the deadline of an answer, and a slow machine.
const LIMIT: Duration = Duration::from_secs(45);

/// A user who may list all but NetworkPolicies, and one who may list all but Services.
const NO_POLICIES: &str = "no-policies";
const NO_SERVICES: &str = "no-services";

/// Every verb, with an answer that needs the whole cluster.
const QUESTIONS: &[&str] = &[
    "explain flow deploy/shop/web svc/shop/api 80",
    "explain flow shop/db shop/api 9000 -o json",
    "explain flow ops/probe 10.96.7.7:80 -o json",
    "explain flow shop/api shop/db 5432 -o json",
    "explain pod shop/db",
    "explain pod shop/web-5d4f8c7b9-x2x4z -o json",
    "explain policy shop/api-from-web",
    "explain policy shop/db -o json",
    "trace --from deploy/shop/web --to svc/shop/api:http -o json",
    "trace --from ops/probe --to svc/shop/ledger",
    "pods",
    "pods -o wide",
    "pods --open -n shop -l app=web -o json",
    "graph",
    "graph -o mermaid -n shop",
    "graph -o dot --focus shop/api",
    "graph -o svg",
];

fn pod(namespace: &str, name: &str, app: &str, host: u8) -> Value {
    let owners = name.strip_suffix("-x2x4z").map(|set| {
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": "6f1c0a5e-0000", "controller": true}])
    });
    let mut labels = json!({"app": app});
    if owners.is_some() {
        labels["pod-template-hash"] = "5d4f8c7b9".into();
    }
    let node = host % 2 + 1;
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "ownerReferences": owners},
        "spec": {
            "nodeName": format!("node-{node}"),
            "containers": [{"name": "main", "image": "none", "ports": [{"name": "http", "containerPort": 9000}]}],
        },
        "status": {
            "phase": "Running", "hostIP": format!("172.30.0.1{node}"), "hostIPs": [{"ip": format!("172.30.0.1{node}")}],
            "podIP": format!("10.42.{node}.{host}"),
            "podIPs": [{"ip": format!("10.42.{node}.{host}")}, {"ip": format!("fd42:{node}::{host}")}],
        },
    })
}

fn objects() -> Vec<Value> {
    let policy = |name: &str, spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "shop", "name": name}, "spec": spec})
    };
    let service = |name: &str, address: &str, selector: Value| {
        let port = json!({"name": "http", "port": 80, "targetPort": "http"});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name},
            "spec": {"clusterIP": address, "selector": selector, "ports": [port]}})
    };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "red"}}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ops"}}),
        pod("shop", "web-5d4f8c7b9-x2x4z", "web", 20),
        pod("shop", "api", "api", 21),
        pod("shop", "db", "db", 22),
        pod("ops", "probe", "probe", 23),
        service("api", "10.96.7.7", json!({"app": "api"})),
        service("ledger", "10.96.7.8", Value::Null),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": "ledger-1", "labels": {"kubernetes.io/service-name": "ledger"}},
            "endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"name": "http", "port": 8443, "protocol": "TCP"}]}),
        policy(
            "api-from-web",
            json!({"podSelector": {"matchLabels": {"app": "api"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "http"}]}]}),
        ),
        policy(
            "db",
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.42.0.0/16"]}}], "ports": [{"port": 5432}]}]}),
        ),
    ]
}

/// The server with these objects, for all tests here.
fn api() -> &'static ApiServer {
    static API: OnceLock<ApiServer> = OnceLock::new();
    API.get_or_init(|| {
        let builder = ApiServer::builder().authorization(Authorization::Rbac);
        let api = builder.user(NO_POLICIES, &[]).user(NO_SERVICES, &[]).start().unwrap();
        for object in objects() {
            api.create(&object).unwrap();
            if let Some(status) = object.get("status") {
                let text = |field: &str| object["metadata"][field].as_str().unwrap();
                api.set_pod_status(text("namespace"), text("name"), status).unwrap();
            }
        }
        let kinds = ["namespaces", "pods", "networkpolicies", "services", "endpointslices"];
        for (user, missing) in [(NO_POLICIES, "networkpolicies"), (NO_SERVICES, "services")] {
            let resources: Vec<_> = kinds.iter().filter(|kind| **kind != missing).collect();
            let groups = ["", "networking.k8s.io", "discovery.k8s.io"];
            let rules = json!([{"apiGroups": groups, "resources": resources, "verbs": ["list"]}]);
            let head = |kind: &str| {
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": user}})
            };
            let mut role = head("ClusterRole");
            role["rules"] = rules;
            let mut binding = head("ClusterRoleBinding");
            let group = "rbac.authorization.k8s.io";
            binding["roleRef"] = json!({"apiGroup": group, "kind": "ClusterRole", "name": user});
            binding["subjects"] = json!([{"apiGroup": group, "kind": "User", "name": user}]);
            api.create(&role).unwrap();
            api.create(&binding).unwrap();
        }
        // Roles are in force a moment after they are written.
        let deadline = Instant::now() + LIMIT;
        for (user, may) in [(NO_POLICIES, "services"), (NO_SERVICES, "networkpolicies")] {
            let can = ["auth", "can-i", "list", may, "--all-namespaces", "--as", user];
            while api.kubectl(&can).is_err() {
                assert!(Instant::now() < deadline, "{user} may still not list {may}");
            }
        }
        api
    })
}

/// A place with the manifests.
fn place(name: &str) -> Place {
    let all = json!({"apiVersion": "v1", "kind": "List", "items": objects()}).to_string();
    Place::new(name, &[("all/all.json", &all)])
}

/// A run of the program in this network namespace.
fn ask(place: &Place, arguments: &str) -> Ended {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", &LIMIT.as_secs().to_string(), PALISADE]).args(arguments.split_whitespace());
    command.current_dir(&place.0).env_remove("KUBECONFIG");
    Ended::of(command.output().unwrap())
}

fn as_user(user: &str) -> String {
    format!("--kubeconfig {}", api().kubeconfig_of(user).display())
}

fn kubeconfig(place: &Place, name: &str, url: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    fs::write(place.0.join(name), config.to_string()).unwrap();
    format!("--kubeconfig {name}")
}

#[test]
fn a_cluster_is_answered_like_its_manifests() {
    let place = place("live");
    for question in QUESTIONS {
        let of_files = ask(&place, &format!("{question} -f all"));
        let of_cluster = ask(&place, &format!("{question} {}", as_user("admin")));
        assert!(of_files.out.len() > 40, "{question}: {of_files:?}");
        assert_eq!((of_cluster.status, &of_cluster.out), (of_files.status, &of_files.out), "{question}");
        assert_eq!(of_cluster.err, of_files.err, "{question}");
    }
    // Not only the same, but right: the Service's port is the pod's port, and the workload that of the ReplicaSet.
    let admin = as_user("admin");
    let text = ask(&place, &format!("explain flow deploy/shop/web svc/shop/api 80 {admin}")).printed();
    assert!(text.contains("service shop/api: leads to shop/api TCP 9000"), "{text}");
    let text = ask(&place, &format!("trace --from ops/probe --to svc/shop/ledger {admin}")).printed();
    assert!(text.contains("leads to 192.0.2.7 TCP 8443"), "{text}");
    ask(&place, &format!("trace --from shop/api --to shop/db:5432 {admin}")).denied();
}

#[test]
fn a_change_is_compared_with_the_cluster() {
    let place = place("diff-live");
    let admin = as_user("admin");
    assert_eq!(ask(&place, &format!("diff --live all {admin}")).printed(), "no flow changes\n");
    let mut wider = objects().pop().unwrap();
    wider["spec"]["ingress"][0]["from"][0] = json!({"podSelector": {"matchLabels": {"app": "api"}}});
    fs::create_dir_all(place.0.join("wider")).unwrap();
    fs::write(place.0.join("wider/db.json"), wider.to_string()).unwrap();
    let changed = ask(&place, &format!("diff --live wider {admin}")).denied();
    assert_eq!(changed, "+ shop/api   → shop/db   TCP 5432\n");
    // The same from files, and as the cluster has it afterwards.
    assert_eq!(ask(&place, "diff all --apply wider").denied(), changed);
    let json = ask(&place, &format!("diff --live wider -o json {admin}")).denied();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["changes"][0]["opened"], "TCP 5432");
    ask(&place, &format!("diff --live missing {admin}")).assert_refused(2, &["missing", "No such file"]);
    ask(&place, &format!("diff --live all {admin} --context nowhere")).assert_refused(2, &["nowhere"]);
}

#[test]
fn what_a_user_may_not_list_is_said() {
    let place = place("rights");
    let refused =
        ["cannot read the cluster at https://127.0.0.1:", "list the cluster's networkpolicies", "is forbidden"];
    let user = as_user(NO_POLICIES);
    for verb in ["explain flow shop/api shop/db 80", "explain pod shop/db", "explain policy shop/db", "pods", "graph"] {
        let ended = ask(&place, &format!("{verb} {user}"));
        ended.assert_refused(2, &refused);
        ended.assert_refused(2, &[&format!("User \"{NO_POLICIES}\""), "hint: "]);
    }
    ask(&place, &format!("trace --from shop/api --to shop/db:80 {user}")).assert_refused(2, &refused);
    ask(&place, &format!("diff --live all {user}")).assert_refused(2, &refused);

    // Without Services, flows between pods are still judged; a Service's IP would be taken for one outside.
    let user = as_user(NO_SERVICES);
    let flow = ask(&place, &format!("explain flow ops/probe 10.96.7.7:80 {user}"));
    assert!(
        flow.err.contains("warning: the user may not list services: Services and their IPs are not known"),
        "{flow:?}"
    );
    let judged = ask(&place, &format!("trace --from shop/api --to shop/db:80 {user}"));
    assert_eq!(judged.status, Some(1), "{judged:?}");
    let unknown = ask(&place, &format!("trace --from shop/web --to svc/shop/api {user}"));
    unknown.assert_refused(2, &["may not list services", "service shop/api is not among the objects read"]);
    ask(&place, &format!("graph {user}")).printed();

    // A token that has expired, and a certificate that another authority signed.
    let admin: Value = serde_json::from_slice(&fs::read(api().kubeconfig()).unwrap()).unwrap();
    let at = format!("cannot read the cluster at {}: ", api().url());
    let mut expired = admin.clone();
    expired["users"][0]["user"]["token"] = "expired".into();
    let mut untrusted = admin;
    untrusted["clusters"][0]["cluster"].as_object_mut().unwrap().remove("certificate-authority");
    for (name, config, says) in [("expired", expired, "Unauthorized"), ("untrusted", untrusted, "certificate")] {
        fs::write(place.0.join(name), config.to_string()).unwrap();
        ask(&place, &format!("pods --kubeconfig {name}")).assert_refused(2, &[&at, says, "hint: "]);
    }
}

#[test]
fn a_server_that_does_not_answer_is_named_in_time() {
    let place = place("unreachable");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap(), silent);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusing = kubeconfig(&place, "closed", &format!("http://{closed}"));
    let hanging = kubeconfig(&place, "silent", &format!("http://{}", silent.0));
    let verbs = [
        "explain flow shop/api shop/db 80",
        "explain pod shop/db",
        "explain policy shop/db",
        "pods",
        "graph",
        "trace --from shop/api --to shop/db:80",
        "diff --live all",
    ];
    // All at once: each waits for the deadline.
    let started = Instant::now();
    std::thread::scope(|scope| {
        for verb in verbs {
            let (place, refusing, hanging, at) = (&place, &refusing, &hanging, silent.0);
            scope.spawn(move || {
                let where_ = format!("cannot read the cluster at http://{closed}: ");
                ask(place, &format!("{verb} {refusing}")).assert_refused(2, &[&where_, "Connection refused", "hint: "]);
                let where_ = format!("cannot read the cluster at http://{at}: ");
                ask(place, &format!("{verb} {hanging}"))
                    .assert_refused(2, &[&where_, "no answer to a list of the cluster's namespaces within 30s"]);
            });
        }
    });
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
}
