//! An unreachable API server: at the start, later, and at a restart in between.

use palisade_lab::Signal;
use palisade_testkit::apiserver::network_policy_path;

use crate::agent::bed::{Bed, DENY};
use crate::agent::cluster::start;
use crate::common::running::Agent;

const TRYING: &str = "cannot read objects; trying again, the ruleset stays";

/// Waits until the agent has logged and counted failures to read objects, for all three kinds.
fn wait_noticed(agent: &Agent, said_before: usize, counted_before: u64) {
    agent.wait("failure to read objects", || {
        let events = agent.events();
        let said = events.iter().filter(|event| event["message"] == TRYING).skip(said_before);
        let resources: std::collections::BTreeSet<_> = said.map(|event| event["resource"].as_str().unwrap()).collect();
        resources.len() == 3 && agent.watch_errors() >= counted_before + 3
    });
}

#[test]
fn an_unreachable_api_server_changes_nothing() {
    let bed = Bed::new("outage");
    let api = start(&bed);
    api.apply(DENY).unwrap();

    // Unreachable at the start: alive, not ready, and nothing is written.
    api.stop_apiserver();
    let agent = bed.agent_of(&api.kubeconfig());
    let reason = agent.wait_missing("not all been listed");
    assert!(reason.contains("sync: ") && reason.contains("commit: nothing has been committed"), "{reason}");
    wait_noticed(&agent, 0, 0);
    assert_eq!(agent.get("/livez").unwrap().status, 200);
    assert!(agent.missing().is_some());
    assert_eq!((agent.metric("palisade_watch_synced"), agent.commits("full")), (0, 0));
    assert!(!bed.has_table(), "the kernel was written to before everything was listed");
    bed.assert_reached(true);
    api.start_apiserver().unwrap();
    agent.wait_ready();
    bed.assert_reached(false);

    // Unreachable later: the table stays, and the agent stays ready.
    let (said, counted, before) = (agent.logged(TRYING), agent.watch_errors(), bed.handles());
    api.stop_apiserver();
    wait_noticed(&agent, said, counted);
    bed.assert_reached(false);
    assert_eq!(bed.handles(), before);
    assert_eq!(agent.missing(), None);

    // Unreachable at a restart: the previous agent's table stays, however long.
    assert!(agent.end(Signal::SIGTERM).success());
    let said = bed.logged(TRYING);
    let agent = bed.agent_of(&api.kubeconfig());
    agent.wait_missing("not all been listed");
    wait_noticed(&agent, said, 0);
    bed.assert_reached(false);
    assert_eq!(bed.handles(), before);
    assert_eq!(agent.commits("full"), 0);

    // Reachable again: changes are enforced, including those made meanwhile.
    api.start_apiserver().unwrap();
    agent.wait_ready();
    bed.assert_reached(false);
    assert_eq!(bed.handles(), before);
    let policy = network_policy_path("shop", "deny-all");
    agent.after("policy shop/deny-all deleted", || api.delete(&policy).unwrap());
    bed.assert_reached(true);
}
