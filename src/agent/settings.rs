//! The flags in effect, defaults included: a log line at the start, and a metric.

use clap::ValueEnum;
use prometheus_client::metrics::info::Info;

use crate::cli::AgentArgs;

/// The flags that change what is enforced, as labels.
type Labels = Vec<(&'static str, String)>;

/// Logs the start, with every flag that changes what is enforced.
pub(crate) fn log(arguments: &AgentArgs) {
    tracing::info!(
        node = arguments.node,
        listen = %arguments.listen,
        version = env!("CARGO_PKG_VERSION"),
        established = name(&arguments.established),
        untracked = name(&arguments.untracked),
        new_pods = name(&arguments.new_pods),
        verdict_cache = %arguments.verdict_cache,
        bridge_netfilter = name(&arguments.bridge_netfilter),
        policy_budget = arguments.policy_budget,
        allow_egress_to_own_node = arguments.allow_egress_to_own_node,
        legacy_namespace_isolation = arguments.legacy_namespace_isolation,
        "starting"
    );
}

/// The same flags as the labels of a metric.
pub(crate) fn info(arguments: &AgentArgs) -> Info<Labels> {
    Info::new(vec![
        ("established", name(&arguments.established)),
        ("untracked", name(&arguments.untracked)),
        ("new_pods", name(&arguments.new_pods)),
        ("verdict_cache", arguments.verdict_cache.to_string()),
        ("bridge_netfilter", name(&arguments.bridge_netfilter)),
        ("policy_budget", arguments.policy_budget.to_string()),
        ("allow_egress_to_own_node", arguments.allow_egress_to_own_node.to_string()),
        ("legacy_namespace_isolation", arguments.legacy_namespace_isolation.to_string()),
    ])
}

/// A flag's value as it is written on the command line.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
