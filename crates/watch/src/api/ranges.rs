//! The IP ranges that a node assigns pod IPs from, according to the control plane.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kube::Client;
use kube::api::{GetParams, Request};
use serde::Deserialize;
use tokio::sync::mpsc::Sender;

use super::chance;
use crate::event::{Arrival, Event};

/// The pause after an answer without ranges.
const PAUSE: Duration = Duration::from_secs(5);

/// The deadline of a request: no watch starts before the first answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// `v1` Node, trimmed.
#[derive(Deserialize)]
struct KubeNode {
    #[serde(default)]
    spec: NodeSpec,
}

#[derive(Default, Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

/// Requests the ranges of one node.
pub(super) struct RangePoller {
    client: Client,
    node: Arc<str>,
    /// The last problem, so that it is logged once.
    logged: Option<String>,
    /// The last answer. A Node that is created again may have others.
    known: BTreeSet<IpNet>,
}

impl RangePoller {
    pub(super) fn new(client: Client, node: Arc<str>) -> Self {
        Self { client, node, logged: None, known: BTreeSet::new() }
    }

    /// Requests the Node once. None if there is no answer yet, or if the ranges are the same as before.
    pub(super) async fn ask(&mut self) -> Option<BTreeSet<IpNet>> {
        let problem = match tokio::time::timeout(PATIENCE, self.get()).await {
            Err(_) => format!("no answer within {PATIENCE:?}"),
            Ok(Ok(node)) => {
                let ranges = ranges(&node.spec);
                if !ranges.is_empty() {
                    self.logged = None;
                    let is_new = ranges != self.known;
                    return is_new.then(|| {
                        self.known.clone_from(&ranges);
                        ranges
                    });
                }
                "the Node has no spec.podCIDRs".to_owned()
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                format!("{status}; the ClusterRole must allow get of nodes")
            }
            Ok(Err(error)) => error.to_string(),
        };
        if self.logged.as_ref() != Some(&problem) && self.known.is_empty() {
            tracing::warn!(
                node = &*self.node,
                error = problem,
                "this node's pod ranges are unknown; a new pod is isolated only once its IP is known"
            );
            self.logged = Some(problem);
        }
        None
    }

    /// Requests the Node repeatedly and sends changes, until the receiver is dropped. `period` is the pause after an
    /// answer.
    pub(super) async fn poll(mut self, period: Duration, tx: Sender<Arrival>) {
        loop {
            tokio::time::sleep(if self.known.is_empty() { PAUSE } else { chance::about(period, 0.1) }).await;
            if let Some(ranges) = self.ask().await
                && tx.send(Arrival::now(Event::PodRanges(ranges))).await.is_err()
            {
                return;
            }
        }
    }

    async fn get(&self) -> kube::Result<KubeNode> {
        let request = Request::new("/api/v1/nodes").get(&self.node, &GetParams::default());
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
    }
}

fn ranges(spec: &NodeSpec) -> BTreeSet<IpNet> {
    let all = spec.pod_cidrs.iter().chain(&spec.pod_cidr);
    all.filter_map(|range| range.parse::<IpNet>().ok()).map(|range| range.trunc()).collect()
}

#[cfg(test)]
mod tests {
    use super::{KubeNode, ranges};

    #[test]
    fn ranges_are_read_from_either_field() {
        let read = |json: &str| {
            let node: KubeNode = serde_json::from_str(json).unwrap();
            ranges(&node.spec).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            read(r#"{"spec": {"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24", "fd42:1::/64"]}}"#),
            ["10.42.1.0/24", "fd42:1::/64"]
        );
        assert_eq!(read(r#"{"spec": {"podCIDR": "10.42.1.0/24"}}"#), ["10.42.1.0/24"]);
        assert_eq!(read(r#"{"spec": {"podCIDRs": ["10.42.1.7/24"]}}"#), ["10.42.1.0/24"]);
        assert_eq!(read(r#"{"spec": {"podCIDRs": ["everything"]}}"#), [""; 0]);
        assert_eq!(read(r#"{"metadata": {"name": "node-1"}}"#), [""; 0]);
    }
}
