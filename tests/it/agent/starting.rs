//! A pod that policies isolate is isolated before its IP is known: until then, packets of unknown IPs in the node's pod
//! range are dropped.

use std::net::IpAddr;
use std::time::Duration;

use palisade_lab::{Flow, Listen, Namespace, Pod, Signal, probe_all};
use palisade_testkit::apiserver::{ApiServer, pod_path};
use serde_json::json;

use crate::agent::bed::Bed;
use crate::agent::cluster::start;
use crate::common::running::Agent;

const LOCKED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: locked, namespace: shop}
spec:
  podSelector: {matchLabels: {app: locked}}
  policyTypes: [Ingress, Egress]
";

/// Time limit for an answer.
const ANSWER: Duration = Duration::from_millis(700);

/// A node with two pods that the API server knows, and one that has its IP and is not known yet.
struct Scene {
    bed: Bed,
    api: ApiServer,
    new: Pod,
}

impl Scene {
    fn new(name: &str) -> Self {
        let bed = Bed::new(name);
        let api = start(&bed);
        api.apply(LOCKED).unwrap();
        let new = bed.node().add_pod("shop/new").unwrap();
        for pod in [&bed.web, &bed.client, &new] {
            pod.serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap();
        }
        bed.node().serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap();
        Self { bed, api, new }
    }

    /// The pod in the API server after it was scheduled.
    fn schedule(&self, labels: &serde_json::Value) {
        self.api.create_pod("shop", "new", self.bed.node().name(), labels).unwrap();
    }

    /// Whether the new pod reaches others and its node, whether others and its node reach it, and whether others reach
    /// each other: over both protocols and families.
    fn reached(&self) -> [bool; 5] {
        let (new, web, node) = (&self.new, &self.bed.web, self.bed.node());
        let (gateway4, gateway6) = node.gateway();
        let gateways: [IpAddr; 2] = [gateway4.into(), gateway6.into()];
        [
            all(new.namespace(), &web.addresses()),
            all(new.namespace(), &gateways),
            all(web.namespace(), &new.addresses()),
            all(node.namespace(), &new.addresses()),
            all(self.bed.client.namespace(), &web.addresses()),
        ]
    }
}

fn all(from: &Namespace, to: &[IpAddr]) -> bool {
    let flows: Vec<_> = to.iter().flat_map(|to| [Flow::tcp(from, *to, 80), Flow::udp(from, *to, 80)]).collect();
    let reached: Vec<_> =
        probe_all(&flows, ANSWER).unwrap().into_iter().map(palisade_lab::Outcome::is_reachable).collect();
    assert!(reached.windows(2).all(|pair| pair[0] == pair[1]), "{flows:?}: {reached:?}");
    reached[0]
}

fn starting(agent: &Agent) -> u64 {
    agent.metric("palisade_starting_pods")
}

#[test]
fn a_new_pod_is_isolated_before_its_address_is_known() {
    let scene = Scene::new("starting");
    let agent = scene.bed.agent_of(&scene.api.kubeconfig());
    agent.wait_ready();
    // No isolated pod is starting: unknown IPs pass.
    assert_eq!(scene.reached(), [true; 5]);

    // From the moment that it is scheduled; traffic of the node and of known pods continues.
    agent.after("pod shop/new added", || scene.schedule(&json!({ "app": "locked" })));
    assert_eq!(starting(&agent), 1);
    assert_eq!(scene.reached(), [false, false, false, true, true], "{}", scene.bed.list());
    let table = scene.bed.list();
    assert!(
        table.contains("chain unknown-pod-ip/egress {") && table.contains("while an isolated one starts"),
        "{table}"
    );

    // An agent that starts then blocks it too, and so does one that adopts another's table.
    agent.end(Signal::SIGTERM);
    let agent = scene.bed.agent_of(&scene.api.kubeconfig());
    agent.wait_ready();
    assert_eq!(scene.reached(), [false, false, false, true, true]);

    // With another label it is not isolated; and back.
    let label = |app: &str| scene.api.label(&pod_path("shop", "new"), &json!({ "app": app })).unwrap();
    agent.after("pod shop/new changed", || label("open"));
    assert_eq!(starting(&agent), 0);
    assert_eq!(scene.reached(), [true; 5]);
    agent.after("pod shop/new changed", || label("locked"));
    assert_eq!(scene.reached(), [false, false, false, true, true]);

    // Its IP is known: now its own rules isolate it, and other IPs of the range pass.
    agent.after("pod shop/new changed", || {
        scene.api.set_pod_running("shop", "new", &scene.new.addresses()).unwrap();
    });
    assert_eq!(starting(&agent), 0);
    assert_eq!(scene.reached(), [false, false, false, true, true], "{}", scene.bed.list());
    // The same holds for a pod whose sandbox is recreated, until its new IP is known.
    let sandbox = |status: &str| {
        let conditions = json!([{ "type": "PodReadyToStartContainers", "status": status }]);
        scene.api.set_pod_status("shop", "new", &json!({ "conditions": conditions })).unwrap();
    };
    let other = scene.bed.node().add_pod("shop/other").unwrap();
    other.serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap();
    assert!(all(other.namespace(), &scene.bed.web.addresses()));
    assert!(all(scene.bed.web.namespace(), &other.addresses()));
    agent.after("pod shop/new changed", || sandbox("False"));
    assert!(!all(other.namespace(), &scene.bed.web.addresses()));
    assert!(!all(scene.bed.web.namespace(), &other.addresses()));
    assert_eq!(scene.reached(), [false, false, false, true, true]);
    agent.after("pod shop/new changed", || sandbox("True"));
    assert!(all(other.namespace(), &scene.bed.web.addresses()));
}

#[test]
fn late_pod_ranges_are_blocked_from_then_on() {
    let scene = Scene::new("late");
    let (name, path) = (scene.bed.node().name().to_owned(), format!("/api/v1/nodes/{}", scene.bed.node().name()));
    scene.api.delete(&path).unwrap();
    scene.api.create(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } })).unwrap();
    scene.schedule(&json!({ "app": "locked" }));
    let agent = scene.bed.agent_of(&scene.api.kubeconfig());
    agent.wait_ready();
    assert_eq!(scene.reached(), [true; 5]);
    let complaint = agent.events().into_iter().find(|event| event["level"] == "WARN" && event["node"] == *name);
    assert_eq!(complaint.unwrap()["error"], "the Node has no spec.podCIDRs");
    let (range4, range6) = scene.bed.node().pod_ranges();
    scene.api.patch(&path, &json!({ "spec": { "podCIDR": range4, "podCIDRs": [range4, range6] } })).unwrap();
    let held = || agent.logged("committed") == 2 && agent.logged("this node assigns pod IPs from these ranges") == 1;
    agent.wait("commit because of pod ranges", held);
    assert_eq!(scene.reached(), [false, false, false, true, true], "{}", scene.bed.list());
}

#[test]
fn a_new_pod_passes_until_it_is_known_if_so_configured() {
    let scene = Scene::new("passing");
    let agent = scene.bed.agent_with(&scene.api.kubeconfig(), &["--new-pods=pass"]);
    agent.wait_ready();
    scene.schedule(&json!({ "app": "locked" }));
    agent.wait("the new pod among the events", || starting(&agent) == 1);
    assert_eq!(scene.reached(), [true; 5]);
    agent.after("pod shop/new changed", || {
        scene.api.set_pod_running("shop", "new", &scene.new.addresses()).unwrap();
    });
    assert_eq!(scene.reached(), [false, false, false, true, true]);
}
