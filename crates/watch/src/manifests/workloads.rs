//! The pods of workloads.

use std::collections::{BTreeMap, BTreeSet};

use palisade_policy::input::{NamespacedName, Object};

use super::document::{Content, Reading, Workload};
use super::written::{Lines, Written};
use crate::decode::WorkloadKind;
use crate::finding::{Finding, Flaw, ObjectName, Place};

/// Names the pods of workloads and adds them to the objects of their files. Returns a finding for each duplicate.
pub(super) fn add_workload_pods(contents: &mut [Content]) -> Vec<Finding> {
    let pods = contents.iter().flat_map(|content| &content.objects).filter_map(|(object, _)| match object {
        Object::Pod(pod) => Some(pod.key.clone()),
        Object::Namespace(_) | Object::Policy(_) => None,
    });
    let mut taken: BTreeSet<NamespacedName> = pods.collect();
    let mut waiting: Vec<(usize, Workload)> = Vec::new();
    for (index, content) in contents.iter_mut().enumerate() {
        waiting.extend(content.workloads.drain(..).map(|workload| (index, workload)));
    }
    // A workload gets the same name in any order of files.
    waiting.sort_by_key(|(_, workload)| workload.kind);
    let mut firsts: BTreeMap<(WorkloadKind, NamespacedName), Place> = BTreeMap::new();
    let mut twice = Vec::new();
    for (index, mut workload) in waiting {
        let identity = (workload.kind, workload.pod.key.clone());
        if let Some(first) = firsts.get(&identity) {
            twice.push(written_twice(&workload, first));
            continue;
        }
        firsts.insert(identity, workload.place.clone());
        let key = &mut workload.pod.key;
        if !taken.insert(key.clone()) {
            let kind = workload.kind.name().to_lowercase();
            *key = NamespacedName::new(key.namespace.clone(), format!("{}.{kind}", key.name));
            taken.insert(key.clone());
        }
        if let Some(content) = contents.get_mut(index) {
            content.take_workload(workload);
        }
    }
    twice
}

impl Content {
    fn take_workload(&mut self, workload: Workload) {
        let Workload { kind, pod, place, prefix, ports, sound } = workload;
        self.objects.push((Object::Pod(pod), place.clone()));
        if self.reading == Reading::Everything {
            let lines = Lines::default();
            self.written.push(Written { place, prefix, lines, sound, workload: Some(kind.name()), ports });
        }
    }
}

fn written_twice(workload: &Workload, first: &Place) -> Finding {
    let Workload { kind, pod, place, .. } = workload;
    Finding {
        document: Some(place.document),
        line: Some(place.line),
        object: Some(ObjectName::pod(&pod.key)),
        hint: Some("remove one of the two".to_owned()),
        ..Finding::of_file(
            &place.file,
            Flaw::WrittenTwice,
            format!("{} {} is written twice: it is also at {first}", kind.name(), pod.key),
        )
    }
}
