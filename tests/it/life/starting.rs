//! Pods that start when policies already exist.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use palisade_lab::{Flood, Flow, Listen, Server, Sink};

use crate::life::cluster::{Cluster, HASTE, PATIENCE, asked_every, within};
use crate::life::scene::{PORT, Pod, Scene, in_force, networks, source};

/// Datagrams a second of the flood that measures a window.
const RATE: u32 = 1_000;
/// The number of pods started to measure it, one after the other.
const STARTS: usize = 5;

/// How many of a new pod's packets passed, and of those to it, and for how long after its first could leave.
struct Window {
    sent: u64,
    passed: u64,
    egress: Duration,
    ingress: Duration,
}

/// Starts a pod that may neither send nor receive, and floods from its namespace and into it from the moment that it
/// has an IP: earlier than any process of the pod can.
fn window(cluster: &Cluster, scene: &Scene<'_>, peer: &Pod, number: usize) -> Window {
    let before: BTreeSet<_> = networks(cluster, "node1").into_keys().collect();
    let name = format!("new-{number}");
    scene.apply(&scene.idle(&name, "node1", "locked"));
    let to = peer.addresses[0];
    let (network, address) = asked_every(HASTE, PATIENCE, "a network namespace with an address", || {
        let mut new = networks(cluster, "node1").into_iter().filter(|(name, _)| !before.contains(name));
        new.find_map(|(_, network)| source(&network, to).map(|address| (network, address)))
    });
    let begun = Instant::now();
    let lines = [(&network, &peer.network, to, 30_000), (&peer.network, &network, address, 30_001)].map(
        |(from, at, to, port)| {
            let sink = Sink::open(at, to, port).unwrap();
            (Flood::start(&Flow::udp(from, to, port), Some(RATE)).unwrap(), sink)
        },
    );
    let mut last = [begun; 2];
    let mut seen = [0; 2];
    asked_every(HASTE, PATIENCE, "an end of what passes", || {
        for (at, (flood, sink)) in lines.iter().enumerate() {
            let now = sink.counts(flood.id()).received;
            if now != seen[at] {
                (seen[at], last[at]) = (now, Instant::now());
            }
        }
        last.iter().all(|last| last.elapsed() > Duration::from_secs(3)).then_some(())
    });
    // Silence counts only if it lasts once the IP is known. Not polled above: that would delay the clock.
    within(PATIENCE, "a reported IP", || {
        let reported = scene.kubectl(&["get", "pod", &name, "--output=jsonpath={.status.podIP}"]);
        (!reported.is_empty()).then_some(())
    });
    scene.kubectl(&["delete", "pod", "--now", "--wait", &name]);
    let sent = lines.iter().map(|(flood, _)| flood.sent()).sum();
    let passed = lines.iter().map(|(flood, sink)| sink.counts(flood.id()).received).sum();
    Window { sent, passed, egress: last[0] - begun, ingress: last[1] - begun }
}

/// Starts pods that may neither send nor receive, one after the other.
fn windows(cluster: &Cluster, name: &'static str) -> Vec<Window> {
    let scene = Scene::new(cluster, name);
    let [peer] = scene.pods([("peer", "node1", "peer")]);
    scene.apply(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: locked}\nspec:\n  \
         podSelector: {matchLabels: {app: locked}}\n  policyTypes: [Ingress, Egress]\n",
    );
    (0..STARTS).map(|number| window(cluster, &scene, &peer, number)).collect()
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn a_new_pod_is_silent_until_it_is_known() {
    let cluster = Cluster::enforced();
    let windows = windows(&cluster, "silent");
    let (passed, sent): (u64, u64) =
        (windows.iter().map(|window| window.passed).sum(), windows.iter().map(|window| window.sent).sum());
    println!("life: {passed} of {sent} packets of new pods that are isolated, and to them, passed");
    assert!(sent > 0);
    assert_eq!(passed, 0);
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn what_passes_before_a_new_pod_is_known_if_so_configured() {
    let cluster = Cluster::enforced();
    let pass = r#"[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--new-pods=pass"}]"#;
    cluster.kubectl(&["patch", "--namespace=kube-system", "daemonset/palisade", "--type=json", "--patch", pass]);
    cluster.rolled_out();
    let windows = windows(&cluster, "window");
    // Back to the default, for the following tests.
    cluster.install();
    let spread = |of: fn(&Window) -> Duration| {
        let mut all: Vec<_> = windows.iter().map(|window| of(window).as_millis()).collect();
        all.sort_unstable();
        format!("{} to {} ms (median {})", all[0], all[all.len() - 1], all[all.len() / 2])
    };
    println!(
        "life: with --new-pods=pass, a new pod's own packets pass for {} after it has an address; packets to it for {}",
        spread(|window| window.egress),
        spread(|window| window.ingress)
    );
    // The kubelet reports the IP in its own time, but it does end.
    assert!(windows.iter().all(|window| window.egress.max(window.ingress) < Duration::from_secs(60)));
}

/// A job of several pods, whose init container and container each open a connection and end.
fn job(scene: &Scene<'_>, name: &str, app: &str, to: &str, count: usize) -> String {
    let connect = format!("image: \"{}\", args: [connect, \"--timeout=10s\", \"{to}\"]", scene.cluster.agnhost);
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  completions: {count}\n  parallelism: {count}\n  \
         backoffLimit: 0\n  template:\n    metadata: {{labels: {{app: {app}}}}}\n    spec:\n      restartPolicy: Never\n      \
         initContainers: [{{name: first, {connect}}}]\n      containers: [{{name: main, {connect}}}]\n"
    )
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn init_containers_and_jobs_find_what_they_are_allowed() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "jobs");
    let [server, client, stranger] =
        scene.pods([("server", "node1", "server"), ("client", "node2", "client"), ("stranger", "node1", "stranger")]);
    scene.let_clients_in();
    in_force(&server, &client, &stranger);
    let _echo = Server::start(&server.network, &server.addresses, &[Listen::tcp(PORT)]).unwrap();
    let to = match server.addresses[0] {
        IpAddr::V4(four) => format!("{four}:{PORT}"),
        IpAddr::V6(six) => format!("[{six}]:{PORT}"),
    };
    // The allowed ones: the server's node learns of each a moment after it has begun to connect.
    scene.apply(&job(&scene, "allowed", "client", &to, 8));
    let succeeded = within(PATIENCE, "the jobs", || {
        let status =
            scene.kubectl(&["get", "job", "allowed", "--output=jsonpath={.status.succeeded} {.status.failed}"]);
        let mut counts = status.split(' ').map(|count| count.parse().unwrap_or(0));
        let (succeeded, failed): (u32, u32) = (counts.next()?, counts.next()?);
        (succeeded + failed == 8).then_some(succeeded)
    });
    // The denied ones: each first container fails.
    scene.apply(&job(&scene, "denied", "stranger", &to, 4));
    within(PATIENCE, "the denied pods' failure", || {
        let status = scene.kubectl(&["get", "job", "denied", "--output=jsonpath={.status.failed}"]);
        status.trim().parse::<u32>().is_ok_and(|failed| failed > 0).then_some(())
    });
    println!(
        "life: {succeeded} of 8 pods of a job connected at once to a server that lets them in, from init containers too"
    );
    assert_eq!(succeeded, 8);
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn probes_of_isolated_pods_keep_passing() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "probes");
    let [client, stranger] = scene.pods([("client", "node1", "client"), ("stranger", "node1", "stranger")]);
    let probe = "{httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 2}";
    scene.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: server, labels: {{app: server}}}}\nspec:\n  nodeName: node1\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - name: main\n    image: \"{}\"\n    args: [netexec, \"--http-port=8080\"]\n    \
         readinessProbe: {probe}\n    livenessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1, failureThreshold: 2}}\n",
        cluster.agnhost
    ));
    let server = scene.started("server", "node1");
    scene.let_clients_in();
    in_force(&server, &client, &stranger);
    let (before, failed) = (probes(&cluster, &scene, "successful"), probes(&cluster, &scene, "failed"));
    within(PATIENCE, "ten probes that pass", || {
        assert_eq!(probes(&cluster, &scene, "failed"), failed);
        (probes(&cluster, &scene, "successful") >= before + 10).then_some(())
    });
    let restarts =
        scene.kubectl(&["get", "pod", "server", "--output=jsonpath={.status.containerStatuses[0].restartCount}"]);
    assert_eq!(restarts, "0");
    println!("life: readiness and liveness probes of an isolated pod: none of the last ten failed");
}

/// The number of probes of this scene's pods that the kubelet counts with this result.
fn probes(cluster: &Cluster, scene: &Scene<'_>, result: &str) -> u64 {
    let metrics = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node1/proxy/metrics/probes"]);
    let of_scene = format!("namespace=\"{}\"", scene.name);
    let result = format!("result=\"{result}\"");
    let lines = metrics.lines().filter(|line| {
        line.starts_with("prober_probe_total")
            && line.contains(&of_scene)
            && line.contains(&result)
            && line.contains("pod=\"server\"")
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
