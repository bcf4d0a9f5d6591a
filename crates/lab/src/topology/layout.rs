//! How a node connects its pods.

/// How a node connects its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A bridge `cni0` as the bridge plugin and flannel make it: pods of the node share a link, hairpin mode is on, and
    /// bridged packets visit the IP hooks (`net.bridge.bridge-nf-call-*`).
    Bridge,
    /// A host route per pod and no bridge, as with Calico and the ptp plugin: a pod shares a link only with the node.
    Routed,
}
