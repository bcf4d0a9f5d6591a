//! Reads the objects that a verb judges.

use std::path::Path;

use palisade_policy::index::set_aside;
use palisade_policy::input::{LegacyIsolation, Services, State};
use palisade_watch::{ApiServer, ManifestErrors, Objects, SourceError, Survey};

use crate::cli::Source;
use crate::output::{self, Failure};

/// The objects of manifests, with the pods that workloads create, or of a cluster. Warnings go to stderr. Policies above
/// their budget allow nothing, as with an agent of the default budget.
pub(crate) fn read(source: &Source) -> Result<State, Failure> {
    read_with_services(source).map(|(state, _)| state)
}

/// The same with the Services and EndpointSlices.
pub(crate) fn read_with_services(source: &Source) -> Result<(State, Services), Failure> {
    let (mut state, services) = if source.paths.is_empty() {
        let survey = cluster(source.kubeconfig.as_deref(), source.context.as_deref())?;
        (survey.state, survey.services)
    } else {
        of_manifests(palisade_watch::read_manifests_and_workloads(source.how.of(&source.paths)))?
    };
    if source.legacy_namespace_isolation {
        LegacyIsolation::honour(&mut state);
    }
    for (policy, why) in set_aside(&mut state) {
        output::warn(&format!("policy {policy} {why}"));
    }
    Ok((state, services))
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    let survey = runtime.block_on(async {
        let server = ApiServer::connect_to(kubeconfig, context).await?;
        let mut survey = server.survey().await?;
        survey.services = server.services().await?;
        Ok::<_, SourceError>(survey)
    });
    survey.map_err(|error| {
        Failure::caused("cannot read the cluster", &error)
            .hint("name manifests with -f, or a cluster with --kubeconfig")
    })
}
