//! Why a source cannot start.

use std::io;
use std::path::PathBuf;
#[cfg(feature = "cluster")]
use std::time::Duration;

/// Why a source cannot start. Later trouble is not an error but a [`crate::Failure`]: the source continues.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The kubeconfig is missing or invalid.
    #[cfg(feature = "cluster")]
    #[error("the kubeconfig {} cannot be used; check the file and its current-context", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The kubeconfig in the usual places does not have the context, or cannot be used.
    #[cfg(feature = "cluster")]
    #[error("context {name} cannot be used; check $KUBECONFIG, or ~/.kube/config")]
    Context {
        /// The context.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a service account.
    #[cfg(feature = "cluster")]
    #[error(
        "no API server is known: neither a kubeconfig nor a pod's service account was found; name a kubeconfig or a manifest directory"
    )]
    NoServer(#[source] Box<kube::config::InferConfigError>),
    /// The configuration names certificates, keys or credentials that cannot be used.
    #[cfg(feature = "cluster")]
    #[error("cannot create a client from the API server's configuration; check its certificates and credentials")]
    Client(#[source] Box<kube::Error>),
    /// The API server cannot be reached, or rejects the request.
    #[cfg(feature = "cluster")]
    #[error("cannot list the cluster's {resource}; check the server's address and that list is allowed")]
    List {
        /// The plural name of the kind.
        resource: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server does not answer.
    #[cfg(feature = "cluster")]
    #[error(
        "no answer to a list of the cluster's {resource} within {after:?}; check the server's address and its load"
    )]
    Late {
        /// The plural name of the kind.
        resource: &'static str,
        /// The deadline of an answer.
        after: Duration,
    },
    /// The program was built without an API client.
    #[cfg(not(feature = "cluster"))]
    #[error("this program was built without the feature `cluster` and reads manifests only; name a file or directory")]
    NoClient,
    /// The directory cannot be read or watched.
    #[error("the manifest directory {} cannot be watched", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
