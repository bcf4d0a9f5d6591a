//! Values of fields that are not written, as kubectl and the API server fill them in.
//!
//! `policyTypes` follow from the rules of a policy (`policy.rs`). What a whole object defaults to, as a pod's phase, is in
//! the types of `palisade-policy`.

use palisade_policy::input::Protocol;

/// The namespace of a manifest that names none.
pub(crate) const NAMESPACE: &str = "default";

/// The protocol of a port.
pub(super) const PROTOCOL: Protocol = Protocol::Tcp;
