//! A network-namespace lab: nodes, pods, Services and probes
