//! Where objects come from: an API server or a directory of manifests.
//!
//! - [`read_manifests`] reads files once, for offline commands; [`read_manifests_and_workloads`] also reads workloads;
//!   [`survey_manifests`] and [`ApiServer::survey`] also read objects with mistakes, for a linter.
//! - [`ManifestDirectory`] and [`ApiServer`] are interchangeable sources: they send [`Event`]s until the receiver is
//!   dropped.
//!
//! They share one decoder: a kind is read into the same structure from a manifest's tree and from a server's JSON. A
//! manifest must be valid as a new object; an object that an API server holds is accepted as it is, and a term that
//! cannot be parsed matches nothing.
//!
//! Without the feature `cluster`, the crate has no API client, and [`ApiServer`] cannot be connected to.
#![cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, unused_imports, reason = "only an API server's objects use some items")
)]

#[cfg_attr(not(feature = "cluster"), path = "no_api.rs")]
mod api;
mod contact;
mod decode;
mod directory;
mod error;
mod event;
mod finding;
#[doc(hidden)]
pub mod fuzzing;
mod manifests;
mod node;
mod yaml;

pub use api::ApiServer;
#[cfg(feature = "cluster")]
pub use api::Timing;
pub use contact::{Contact, KindContact};
pub use directory::ManifestDirectory;
pub use error::SourceError;
pub use event::{Arrival, Event, Failure, ListPart, NamespaceAnswer, Notice, ObjectAnswer, Request};
pub use finding::{Finding, Flaw, ManifestErrors, ObjectName, Place};
pub use manifests::{
    Objects, Selection, Survey, Written, read_manifests, read_manifests_and_workloads, survey_manifests,
};
pub use palisade_policy::input::{Kind, Object};
