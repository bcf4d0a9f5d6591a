//! A directory of manifests instead of an API server.

use crate::agent::bed::{Bed, DENY, pod_manifest};
use crate::common::running::assert_idle;

#[test]
fn a_directory_of_manifests_is_followed_and_an_idle_agent_rests() {
    let bed = Bed::new("directory");

    // A bad file at the start: not ready, the reason with file, line and field, nothing written.
    bed.write("deny.yaml", &DENY.replace("podSelector", "podSelektor"));
    let agent = bed.agent();
    let reason = agent.wait_missing("podSelektor");
    assert!(reason.contains("deny.yaml:5") && reason.contains("spec.podSelektor"), "{reason}");
    assert_eq!(agent.get("/livez").unwrap().status, 200);
    assert_eq!(agent.metric("palisade_manifests_rejected_total"), 1);
    assert!(!bed.has_table(), "the kernel was written to while a manifest could not be read");
    bed.write("deny.yaml", DENY);
    agent.wait_ready();
    bed.assert_reached(false);

    // Later a bad file's last good content stays in force; the agent logs and counts it.
    let before = bed.handles();
    bed.write("deny.yaml", "nonsense: [");
    agent.wait("rejection", || agent.metric("palisade_manifests_rejected_total") == 2);
    agent.wait("the log line", || agent.logged("manifest rejected; its last good content stays in force") == 2);
    bed.assert_reached(false);
    assert_eq!((bed.handles(), agent.missing()), (before, None));
    agent.after("policy shop/deny-all deleted", || bed.remove("deny.yaml"));
    bed.assert_reached(true);

    // One more pod changes only its own entries: its IP among the node's pods, and with itself, in both families.
    let more = bed.node().add_pod("shop/more").unwrap();
    let before = agent.metric("palisade_commit_operations_total");
    let commit = agent.after("pod shop/more added", || bed.write("more.yaml", &pod_manifest(&more)));
    assert_eq!(commit["operations"], 4, "{commit}");
    assert_eq!(agent.metric("palisade_commit_operations_total"), before + 4);

    // With a policy in force and nothing to do.
    agent.after("policy shop/deny-all added", || bed.write("deny.yaml", DENY));
    bed.assert_reached(false);
    assert_idle(&agent);
    bed.assert_reached(false);
}
