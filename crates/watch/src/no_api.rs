//! A stub of the API server, for a program without an API client.

use std::convert::Infallible;
use std::path::Path;

use palisade_policy::input::Services;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::contact::Contact;
use crate::error::SourceError;
use crate::event::{Arrival, Request};
use crate::manifests::Survey;

/// An API server. This program has no client for one, so no value of the type exists.
#[derive(Clone, Debug)]
pub struct ApiServer(Infallible);

impl ApiServer {
    /// Fails with [`SourceError::NoClient`].
    ///
    /// # Errors
    /// Always.
    #[expect(clippy::unused_async, reason = "the same signature as with a client")]
    pub async fn connect(_kubeconfig: Option<&Path>) -> Result<Self, SourceError> {
        Err(SourceError::NoClient)
    }

    /// The same.
    ///
    /// # Errors
    /// Always.
    #[expect(clippy::unused_async, reason = "the same signature as with a client")]
    pub async fn connect_to(_kubeconfig: Option<&Path>, _context: Option<&str>) -> Result<Self, SourceError> {
        Err(SourceError::NoClient)
    }

    /// As with a client.
    pub fn url(&self) -> &str {
        match self.0 {}
    }

    /// As with a client.
    #[must_use]
    pub fn with_pod_ranges_of(self, _node: &str) -> Self {
        match self.0 {}
    }

    /// As with a client.
    pub fn contact(&self) -> Contact {
        match self.0 {}
    }

    /// As with a client.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unused_async, reason = "the same signature as with a client")]
    pub async fn run(self, _tx: Sender<Arrival>, _requests: Receiver<Request>) -> Result<(), SourceError> {
        match self.0 {}
    }

    /// As with a client.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unused_async, reason = "the same signature as with a client")]
    pub async fn survey(&self) -> Result<Survey, SourceError> {
        match self.0 {}
    }

    /// As with a client.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unused_async, reason = "the same signature as with a client")]
    pub async fn services(&self) -> Result<(Services, Vec<&'static str>), SourceError> {
        match self.0 {}
    }
}
