//! All objects of manifests, valid or not.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_policy::input::{Change, State};

use super::document::Reading;
use super::objects::{Duplicate, assemble, duplicates};
use super::read::contents;
use super::selection::Selection;
use super::workloads::add_workload_pods;
use super::written::Written;
use crate::finding::{Finding, ObjectName};

/// All objects, valid or not: to report on, not to enforce.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The objects, including the readable parts of those with mistakes. Of duplicates, only the first.
    pub state: State,
    /// How each of them is written; a namespace that is only mentioned has no entry.
    pub written: BTreeMap<ObjectName, Written>,
    /// The mistakes and warnings found while reading.
    pub findings: Vec<Finding>,
    /// The namespaces with objects of custom kinds, whose controllers may create pods.
    pub custom: BTreeSet<Arc<str>>,
}

/// Reads manifests and workloads like [`super::read_manifests_and_workloads`], but continues after mistakes.
pub fn survey_manifests(selection: impl Into<Selection>) -> Survey {
    let mut contents = contents(&selection.into(), Reading::Everything);
    let mut survey = Survey { findings: add_workload_pods(&mut contents), ..Survey::default() };
    survey.findings.extend(duplicates(&contents).iter().map(Duplicate::finding));
    let mut objects = Vec::new();
    for content in contents {
        survey.findings.extend(content.errors);
        survey.findings.extend(content.warnings);
        survey.custom.extend(content.custom);
        for ((object, _), written) in content.objects.into_iter().zip(content.written) {
            if let Entry::Vacant(entry) = survey.written.entry(ObjectName::of(&object)) {
                entry.insert(written);
                objects.push(object);
            }
        }
    }
    let assembled = assemble(&objects);
    for change in [
        Change::Namespaces(assembled.namespaces.into_values().collect()),
        Change::Pods(assembled.pods.into_values().collect()),
        Change::Policies(assembled.policies.into_values().collect()),
    ] {
        survey.state.apply(change);
    }
    survey
}
