//! A model kernel: performs the steps of an engine, and fails on request.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_engine::{Class, Done, Engine, Forgotten, Input, ListPart, NodeView, Present, Step, Trouble};
use palisade_policy::input::{Change, Kind, Object, State};
use palisade_ruleset::cache;
use palisade_ruleset::change::diff;
use palisade_ruleset::model::Ruleset;

use crate::table::try_perform;

/// The table in the model.
#[derive(Clone, Debug, Default)]
pub struct ModelKernel {
    /// The table, if there is one.
    pub table: Option<Ruleset>,
    /// Its chains are dormant.
    pub dormant: bool,
    /// Another program has changed it since it was last read: the kernel may reject a commit on top of it.
    pub meddled: bool,
    /// Batches that have changed it so far.
    pub batches: usize,
    /// Operations in them, elements and rules counted one by one.
    pub operations: usize,
}

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done.
    Refused(Class),
    /// It is done, and the answer is lost.
    AnswerLost,
}

impl ModelKernel {
    /// Performs a step. Questions to a source have no result here.
    ///
    /// # Panics
    /// If the kernel would reject it.
    pub fn perform(&mut self, step: Step, wanted: &Ruleset) -> Option<Done> {
        Some(match step {
            Step::Open => {
                self.table.get_or_insert_default();
                Done::Opened(Ok(()))
            }
            Step::Look { .. } => Done::Looked(Ok(NodeView::default())),
            Step::Read => {
                self.meddled = false;
                Done::Read(Ok(self.present()))
            }
            Step::WaitForPackets => Done::Waited,
            Step::Commit(batch) => {
                let Some(mut table) = self.table.clone() else {
                    assert!(self.meddled, "the table is not open");
                    return Some(Done::Committed(Err(refused("ENOENT"))));
                };
                for operation in &batch.operations {
                    if let Err(errno) = try_perform(&mut table, operation) {
                        assert!(self.meddled, "{errno}: {operation:?}");
                        return Some(Done::Committed(Err(refused(errno))));
                    }
                }
                self.table = Some(table);
                self.batches += 1;
                self.operations +=
                    batch.operations.iter().map(palisade_ruleset::change::Operation::weight).sum::<usize>();
                Done::Committed(Ok(()))
            }
            Step::Replace => {
                self.meddled = false;
                (self.table, self.dormant) = (Some(wanted.clone()), false);
                Done::Committed(Ok(()))
            }
            Step::Wake => {
                self.dormant = false;
                Done::Committed(Ok(()))
            }
            Step::Forget(addresses) => Done::Forgot(Forgotten { finished: addresses, unfinished: BTreeSet::new() }),
            Step::ClearStamps(_) => Done::ClearedStamps { all: true },
            Step::Ask(_) => return None,
        })
    }

    /// Performs a step with a fault.
    ///
    /// # Panics
    /// If the kernel would reject it.
    pub fn fail(&mut self, step: Step, wanted: &Ruleset, fault: Fault) -> Option<Done> {
        let object = match &step {
            Step::Commit(batch) => batch.operations.last().map(|operation| operation.object().clone()),
            _ => None,
        };
        let class = match fault {
            Fault::Refused(class) => class,
            Fault::AnswerLost => {
                self.perform(step.clone(), wanted);
                Class::Unknown
            }
        };
        let trouble = Trouble { class, object, message: "injected fault".to_owned() };
        Some(match step {
            Step::Open => Done::Opened(Err(trouble)),
            Step::Look { .. } => Done::Looked(Err(trouble)),
            Step::Read => Done::Read(Err(trouble)),
            Step::WaitForPackets => Done::Waited,
            Step::Commit(_) | Step::Replace | Step::Wake => Done::Committed(Err(trouble)),
            Step::Forget(addresses) => Done::Forgot(Forgotten { finished: BTreeSet::new(), unfinished: addresses }),
            Step::ClearStamps(_) => Done::ClearedStamps { all: false },
            Step::Ask(_) => return None,
        })
    }

    fn present(&self) -> Option<Present> {
        let mut ruleset = self.table.clone()?;
        let stamp = cache::take(&mut ruleset);
        Some(Present { ruleset, stamp, dormant: self.dormant, foreign: false })
    }

    /// Performs steps until none are left. Returns the IPs whose flows were deleted.
    ///
    /// # Panics
    /// If the engine asks its source a question.
    pub fn settle(&mut self, engine: &mut Engine) -> BTreeSet<IpAddr> {
        let mut forgotten = BTreeSet::new();
        while let Some(step) = engine.next_step() {
            if let Step::Forget(addresses) = &step {
                forgotten.extend(addresses);
            }
            let done = self.perform(step, engine.ruleset());
            assert!(done.is_some(), "nobody answers questions here");
            done.into_iter().for_each(|done| engine.done(done));
        }
        forgotten
    }

    /// Whether the table is the one that the engine wants.
    pub fn is_as_wanted(&self, engine: &Engine) -> bool {
        let Some(Present { ruleset, stamp, dormant, .. }) = self.present() else { return false };
        let is_same = diff(&ruleset, engine.ruleset()).is_ok_and(|patch| patch.is_empty());
        !dormant && is_same && stamp == engine.stamp()
    }
}

fn refused(errno: &str) -> Trouble {
    Trouble { class: Class::Stale, object: None, message: errno.to_owned() }
}

/// Gives an engine the lists of a state, as a source does at its start.
pub fn list(engine: &mut Engine, state: &State) {
    let namespaces = state.namespaces.values().cloned().map(Object::Namespace).collect();
    let pods = state.every_pod().cloned().map(Object::Pod).collect();
    let policies = state.policies.values().cloned().map(Object::Policy).collect();
    for (kind, objects) in [(Kind::Namespace, namespaces), (Kind::Pod, pods), (Kind::NetworkPolicy, policies)] {
        list_kind(engine, kind, objects);
    }
}

/// Passes an engine a list of one kind.
pub fn list_kind(engine: &mut Engine, kind: Kind, objects: Vec<Object>) {
    for part in [ListPart::Begin(kind), ListPart::Page(objects), ListPart::End(kind)] {
        engine.take(Input::List(part));
    }
}

/// Passes an engine a change; a list in parts.
pub fn hand_in(engine: &mut Engine, change: Change) {
    match change {
        Change::Pods(pods) => list_kind(engine, Kind::Pod, pods.into_iter().map(Object::Pod).collect()),
        Change::Namespaces(all) => list_kind(engine, Kind::Namespace, all.into_iter().map(Object::Namespace).collect()),
        Change::Policies(all) => list_kind(engine, Kind::NetworkPolicy, all.into_iter().map(Object::Policy).collect()),
        single => engine.take(Input::Changes(vec![single])),
    }
}
