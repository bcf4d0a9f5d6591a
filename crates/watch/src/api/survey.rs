//! All objects of an API server, read once.

use kube::core::Request;
use kube::core::params::ListParams;
use palisade_policy::input::{Change, Kind, Services};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::ApiServer;
use super::objects::url;
use crate::decode::{
    DEFAULT_NAMESPACE, Decoded, Decoder, Issue, KubeNamespace, KubePod, KubePolicy, Path, Structure, service,
};
use crate::error::SourceError;
use crate::finding::{Finding, ObjectName, Place};
use crate::manifests::{Lines, Survey, Written};

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;

/// The status of an answer that the user's roles do not permit.
const FORBIDDEN: u16 = 403;

/// A page of a list.
#[derive(Deserialize)]
struct Page<S> {
    metadata: PageMeta,
    items: Option<Vec<S>>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl ApiServer {
    /// Reads all namespaces, pods and policies once, including those with mistakes. The place of an object is its
    /// resource, namespace and name, such as `networkpolicies/shop/web`.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn survey(&self) -> Result<Survey, SourceError> {
        let mut survey = Survey::default();
        for kind in Kind::ALL {
            match kind {
                Kind::Namespace => self.survey_kind::<KubeNamespace>(&mut survey).await?,
                Kind::Pod => self.survey_kind::<KubePod>(&mut survey).await?,
                Kind::NetworkPolicy => self.survey_kind::<KubePolicy>(&mut survey).await?,
            }
        }
        Ok(survey)
    }

    /// Reads all Services and EndpointSlices once. Kinds that the user may not read are left out, and named.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn services(&self) -> Result<(Services, Vec<&'static str>), SourceError> {
        let (mut services, mut refused) = (Services::default(), Vec::new());
        for object in self.plain("services", "/api/v1/services", &mut refused).await? {
            let read = service::service(&object, DEFAULT_NAMESPACE);
            services.services.extend(read.map(|service| (service.key.clone(), service)));
        }
        for object in self.plain("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", &mut refused).await? {
            let read = service::endpoint_slice(&object, DEFAULT_NAMESPACE);
            services.slices.extend(read.map(|slice| (slice.key.clone(), slice)));
        }
        Ok((services, refused))
    }

    /// All objects at a path as they are; none if the user may not read them.
    async fn plain(
        &self,
        resource: &'static str,
        path: &str,
        refused: &mut Vec<&'static str>,
    ) -> Result<Vec<Value>, SourceError> {
        let mut all = Vec::new();
        match self.each(resource, path, |object| all.push(object)).await {
            Err(SourceError::List { source, .. }) if is_forbidden(&source) => {
                refused.push(resource);
                Ok(Vec::new())
            }
            listed => listed.map(|()| all),
        }
    }

    async fn survey_kind<S: Structure>(&self, survey: &mut Survey) -> Result<(), SourceError> {
        self.each(S::KIND.resource(), url(S::KIND, None), |structure: S| survey.take(structure)).await
    }

    /// Reads the objects at a path, page by page.
    async fn each<S: DeserializeOwned>(
        &self,
        resource: &'static str,
        path: impl Into<String>,
        mut take: impl FnMut(S),
    ) -> Result<(), SourceError> {
        let (request, mut next) = (Request::new(path), None);
        let unread = |source| SourceError::List { resource, source: Box::new(source) };
        loop {
            let parameters = ListParams { limit: Some(PAGE_SIZE), continue_token: next, ..ListParams::default() };
            let request = request.list(&parameters).map_err(|error| unread(kube::Error::BuildRequest(error)))?;
            // The client has no deadline of its own for an answer.
            let answered = timeout(self.timing.answer, self.client.request(request)).await;
            let late = |_elapsed| SourceError::Late { resource, after: self.timing.answer };
            let page: Page<S> = answered.map_err(late)?.map_err(unread)?;
            page.items.into_iter().flatten().for_each(&mut take);
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(());
            }
        }
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == FORBIDDEN)
}

impl Survey {
    /// Takes an object, unless it has no name, which no server sends.
    fn take(&mut self, structure: impl Structure) {
        let mut decoder = Decoder::of_server();
        let Some(Decoded { object, ports }) = structure.decode(&mut decoder, &Path::Root) else { return };
        let name = ObjectName::of(&object);
        let file = match &name.namespace {
            Some(namespace) => format!("{}/{namespace}/{}", name.kind.resource(), name.name),
            None => format!("{}/{}", name.kind.resource(), name.name),
        };
        let place = Place { file: file.clone().into(), document: 0, line: 0 };
        self.findings.extend(decoder.warnings.into_iter().map(|issue| finding(&file, &name, issue)));
        let lines = Lines::default();
        let written = Written { place, sound: true, workload: None, ports, prefix: String::new(), lines };
        self.written.insert(name, written);
        self.state.apply(Change::from(object));
    }
}

fn finding(file: &str, name: &ObjectName, issue: Issue) -> Finding {
    Finding {
        object: Some(name.clone()),
        field: issue.field,
        hint: issue.hint,
        ..Finding::of_file(file, issue.flaw, issue.reason)
    }
}
