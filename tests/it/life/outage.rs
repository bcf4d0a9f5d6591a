//! The API server is stopped for a while.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::life::cluster::{Cluster, NODES, PATIENCE, within};
use crate::life::scene::{PORT, Scene, in_force, reached};
use crate::life::traffic::Crowd;
use palisade_lab::{Listen, Server};

/// Its duration, or `PALISADE_OUTAGE` seconds.
fn length() -> Duration {
    let set = std::env::var("PALISADE_OUTAGE").map(|seconds| seconds.parse().expect("PALISADE_OUTAGE in seconds"));
    Duration::from_secs(set.unwrap_or(60))
}

/// Stops the API server, and continues it at the end in any case.
struct Outage<'a>(&'a Cluster);

impl<'a> Outage<'a> {
    fn begin(cluster: &'a Cluster) -> Self {
        cluster.on("hub", &["pkill", "-STOP", "--exact", "kube-apiserver"]);
        Self(cluster)
    }
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        drop(self.0.try_on("hub", &["pkill", "-CONT", "--exact", "kube-apiserver"]));
    }
}

/// The status of an agent's answer.
fn status(cluster: &Cluster, node: &str, path: &str) -> String {
    let asked = cluster.machine(node).run(|| -> std::io::Result<String> {
        let mut connection = TcpStream::connect("127.0.0.1:9440")?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    });
    asked.unwrap().unwrap_or_else(|error| error.to_string())
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn enforcement_outlives_the_api_server() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "outage");
    let crowd = Crowd::gather(&scene);
    in_force(&crowd.server, &crowd.near, &crowd.stranger);
    let traffic = crowd.traffic();
    let Crowd { server, stranger, .. } = crowd;
    let before = traffic.tally();
    let outage = Outage::begin(&cluster);
    let begun = Instant::now();
    within(length() + PATIENCE, "the outage", || {
        for node in NODES {
            for path in ["/livez", "/readyz"] {
                assert_eq!(
                    status(&cluster, node, path),
                    "HTTP/1.1 200 OK",
                    "{path} of {node} after {:?}",
                    begun.elapsed()
                );
            }
        }
        (begun.elapsed() > length()).then_some(())
    });
    traffic.streams_go_on();
    let tally = traffic.tally().since(before);
    drop(outage);
    tally.demand_clean(&format!("API server away for {} s", length().as_secs()));
    // Later changes are followed, by watches that got no notice of their end.
    within(PATIENCE, "the API server again", || {
        cluster
            .try_kubectl(&["label", "pod", "stranger", "--overwrite", "app=client", "--namespace", &scene.name], "")
            .ok()
    });
    let changed = Instant::now();
    let _echo = Server::start(&server.network, &server.addresses, &[Listen::tcp(PORT)]).unwrap();
    let destinations: Vec<_> = server.addresses.iter().map(|address| (*address, PORT)).collect();
    within(PATIENCE, "a change after the outage in force", || {
        (!reached(&[("stranger", &stranger.network)], &destinations)["stranger"].contains('-')).then_some(())
    });
    println!("life: API server back: a change is in force after {:.1} s", changed.elapsed().as_secs_f64());
}
