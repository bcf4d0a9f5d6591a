//! Defaults of omitted fields, as kubectl and the API server fill them in.
//!
//! The default of `policyTypes` depends on the rules of the policy (`policy.rs`). Defaults such as a pod's phase are in
//! the types of `palisade-policy`.

use palisade_policy::input::Protocol;

/// The namespace of a manifest that names none.
pub(crate) const NAMESPACE: &str = "default";

/// The protocol of a port.
pub(super) const PROTOCOL: Protocol = Protocol::Tcp;
