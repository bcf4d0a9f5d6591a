//! Reads the objects that a verb judges.

use std::net::IpAddr;
use std::path::Path;

use palisade_policy::flow::NodeFacts;
use palisade_policy::index::set_aside;
use palisade_policy::input::{LegacyIsolation, Services, State};
use palisade_watch::{ApiServer, ManifestErrors, Objects, SourceError, Survey};

use crate::cli::Source;
use crate::output::{self, Failure};

/// The objects of manifests, with the pods that workloads create, or of a cluster. Warnings go to stderr. Policies above
/// their budget allow nothing, as with an agent of the default budget.
pub(crate) fn read(source: &Source) -> Result<State, Failure> {
    let state = if source.paths.is_empty() {
        cluster(source.kubeconfig.as_deref(), source.context.as_deref())?.state
    } else {
        manifests(source)?.0
    };
    Ok(as_enforced(state, source))
}

/// The same with the Services and EndpointSlices.
pub(crate) fn read_with_services(source: &Source) -> Result<(State, Services), Failure> {
    let (state, services) = if source.paths.is_empty() {
        let (state, (services, refused)) =
            ask(source.kubeconfig.as_deref(), source.context.as_deref(), async |server| {
                Ok((server.survey().await?.state, server.services().await?))
            })?;
        if !refused.is_empty() {
            output::warn(&format!(
                "the user may not list {}: Services and their IPs are not known; allow it, or name pods",
                refused.join(" and ")
            ));
        }
        (state, services)
    } else {
        manifests(source)?
    };
    Ok((as_enforced(state, source), services))
}

fn manifests(source: &Source) -> Result<(State, Services), Failure> {
    of_manifests(palisade_watch::read_manifests_and_workloads(source.how.of(&source.paths)))
}

fn as_enforced(mut state: State, source: &Source) -> State {
    if source.legacy_namespace_isolation {
        LegacyIsolation::honour(&mut state);
    }
    within_budget(state)
}

/// The objects as an agent with the default budget sees them.
pub(crate) fn within_budget(mut state: State) -> State {
    for (policy, why) in set_aside(&mut state) {
        output::warn(&format!("policy {policy} {why}"));
    }
    state
}

/// The objects of manifests; warnings go to stderr.
pub(crate) fn of_manifests(read: Result<Objects, ManifestErrors>) -> Result<(State, Services), Failure> {
    let mut read = read.map_err(|errors| Failure::new(errors.to_string()))?;
    for warning in read.warnings.iter().filter(|warning| !warning.flaw.is_advice()) {
        output::warn(&warning.to_string());
    }
    let services = std::mem::take(&mut read.services);
    Ok((read.into(), services))
}

/// All objects of a cluster.
pub(crate) fn cluster(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Survey, Failure> {
    ask(kubeconfig, context, async |server| server.survey().await)
}

/// What an API server answers.
fn ask<T>(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    question: impl AsyncFnOnce(&ApiServer) -> Result<T, SourceError>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    let _reading = output::Progress::of("reading the cluster");
    let hint = "name another cluster with --kubeconfig or --context, or read manifests instead";
    runtime.block_on(async {
        let server = ApiServer::connect_to(kubeconfig, context)
            .await
            .map_err(|error| Failure::caused("cannot read the cluster", &error).hint(hint))?;
        let unread =
            |error| Failure::caused(&format!("cannot read the cluster at {}", server.url()), &error).hint(hint);
        question(&server).await.map_err(unread)
    })
}

/// What the arguments say about nodes.
pub(crate) fn facts(allow_egress_to_own_node: bool, addresses: &[(String, IpAddr)]) -> NodeFacts {
    let mut facts = NodeFacts { allow_egress_to_own_node, ..NodeFacts::default() };
    for (node, address) in addresses {
        facts.addresses.entry(node.as_str().into()).or_default().insert(*address);
    }
    facts
}
