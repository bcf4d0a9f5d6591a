//! Services of every kind in front of an isolated pod, hostPort, hostNetwork pods, and a pod that reaches itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_lab::{Listen, Namespace, Server};
use serde_json::Value;

use crate::life::cluster::Cluster;
use crate::life::scene::{PORT, Pod, Scene, in_force, reached};

const HOST_PORT: u16 = 8088;

/// The server, with a node port, and pods on their nodes' network: their labels change nothing.
fn manifests(scene: &Scene<'_>) -> String {
    let image = &scene.cluster.agnhost;
    let host = |name: &str, node: &str, app: &str| {
        scene.idle(name, node, app).replace("spec:\n", "spec:\n  hostNetwork: true\n")
    };
    let service = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: server}}\n  \
             ipFamilyPolicy: PreferDualStack\n  ports: [{{port: 8000, targetPort: {PORT}}}]\n  {more}\n---\n"
        )
    };
    [
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: server, labels: {{app: server}}}}\nspec:\n  nodeName: node1\n  \
             terminationGracePeriodSeconds: 0\n  containers: [{{name: main, image: \"{image}\", args: [pause], \
             ports: [{{containerPort: {PORT}, hostPort: {HOST_PORT}}}]}}]\n---\n"
        ),
        host("host-client", "node2", "client"),
        host("host-server", "node2", "server-of-the-host"),
        service("cluster-ip", "type: ClusterIP"),
        service("node-port", "type: NodePort"),
        service("node-port-local", "type: NodePort\n  externalTrafficPolicy: Local"),
        service("headless", "clusterIP: None"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: external}\nspec: {type: ExternalName, externalName: example.org}\n"
            .to_owned(),
    ]
    .concat()
}

/// The addresses of a Service: its own, and its node ports.
struct Place {
    own: Vec<IpAddr>,
    node_port: u16,
}

fn place(scene: &Scene<'_>, name: &str) -> Place {
    let service: Value = serde_json::from_str(&scene.kubectl(&["get", "service", name, "--output=json"])).unwrap();
    let own = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    Place {
        own: own.filter_map(|address| address.as_str()?.parse().ok()).collect(),
        node_port: service["spec"]["ports"][0]["nodePort"].as_u64().unwrap_or(0).try_into().unwrap(),
    }
}

fn addresses(cluster: &Cluster, node: &str) -> Vec<IpAddr> {
    let path = "--output=jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    cluster.kubectl(&["get", "node", node, path]).split_whitespace().map(|address| address.parse().unwrap()).collect()
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn services_of_every_kind() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "services");
    scene.apply(&manifests(&scene));
    let [near, far, stranger, beyond] = scene.pods([
        ("near", "node1", "client"),
        ("far", "node2", "client"),
        ("stranger", "node1", "stranger"),
        ("beyond", "node2", "stranger"),
    ]);
    let server = scene.started("server", "node1");
    for name in ["host-client", "host-server"] {
        scene.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"]);
    }
    scene.let_clients_in();
    in_force(&server, &near, &stranger);
    let _echo = Server::start(&server.network, &server.addresses, &[Listen::tcp(PORT)]).unwrap();
    let machines = ["node1", "node2", "hub"].map(|name| (name, cluster.machine(name)));
    let pods: [(&str, &Pod); 5] =
        [("near", &near), ("far", &far), ("stranger", &stranger), ("beyond", &beyond), ("server", &server)];
    let mut senders: Vec<(&str, &Namespace)> = pods.iter().map(|(name, pod)| (*name, &pod.network)).collect();
    senders.extend(machines.iter().map(|(name, machine)| (*name, machine)));

    let (plain, local) = (place(&scene, "node-port"), place(&scene, "node-port-local"));
    let [one, two] = ["node1", "node2"].map(|node| addresses(&cluster, node));
    let mut denied = 0;
    for family in 0..server.addresses.len() {
        let destinations = [
            ("pod", server.addresses[family], PORT),
            ("ClusterIP", place(&scene, "cluster-ip").own[family], 8000),
            ("NodePort of its node", one[family], plain.node_port),
            ("NodePort of another", two[family], plain.node_port),
            ("Local, its node", one[family], local.node_port),
            ("Local, another", two[family], local.node_port),
            ("hostPort", one[family], HOST_PORT),
        ];
        // Packets that leave the pod network have the node's IP (flannel's masquerading), and so have those that
        // kube-proxy sends to another node. In both cases the source is a node, not a client.
        let expected = BTreeMap::from([
            // The port on the server's own node leads to it before anything is masqueraded.
            ("near", "+++-+-+"),
            // For pods of its node, kube-proxy serves a Local port wherever the server is, like the ClusterIP.
            ("far", "++---+-"),
            ("stranger", "-------"),
            ("beyond", "-------"),
            // A pod reaches itself, whatever the path.
            ("server", "+++-+-+"),
            // Its own node reaches it; another node is not a client, whatever runs there.
            ("node1", "+++-+-+"),
            ("node2", "-------"),
            ("hub", "-------"),
        ]);
        let ways: Vec<_> = destinations.iter().map(|(_, address, port)| (*address, *port)).collect();
        let measured = reached(&senders, &ways);
        for (name, line) in &measured {
            println!("life: services: {name:10} {line}   ({} …)", server.addresses[family]);
        }
        denied += measured.values().flat_map(|line| line.chars()).filter(|letter| *letter == '-').count();
        for (name, line) in expected {
            assert_eq!(measured[name], line, "{name}: {:?}", destinations.map(|(name, ..)| name));
        }
    }
    assert!(denied > 0);
    // A headless Service has the addresses of its pods; an ExternalName has none.
    let path = "--output=jsonpath={.items[*].endpoints[*].addresses[*]}";
    let slices = scene.kubectl(&["get", "endpointslices", "--selector=kubernetes.io/service-name=headless", path]);
    let mut behind: Vec<IpAddr> = slices.split_whitespace().map(|address| address.parse().unwrap()).collect();
    let mut own = server.addresses.clone();
    behind.sort();
    own.sort();
    assert_eq!(behind, own);
}
