//! Faults that the real kernel cannot be made to have.
//!
//! Seen to fail when: a refused commit quarantined nothing; the loop went on committing increments after an error without
//! reading the table back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use palisade_dataplane::table::ForeignChanges;
use palisade_policy::input::{
    Addresses, Isolates, LabelSelector, NamespacedName, Peers, Phase, Pod, Policy, Ports, Rule,
};
use palisade_ruleset::change::{Operation, Patch, SetChange, element_changes};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;

use super::*;
use crate::agent::kernel::Survey;
use palisade_testkit::table::perform;

/// A kernel that keeps a model, and refuses what leads to a rule with this comment.
#[derive(Default)]
struct Faulty {
    table: Option<Ruleset>,
    refuse: Option<&'static str>,
    reads: usize,
}

type Shared = Rc<RefCell<Faulty>>;

impl Kernel for Shared {
    fn open(&mut self) -> Result<(), KernelError> {
        self.borrow_mut().table.get_or_insert_default();
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Ruleset>, KernelError> {
        self.borrow_mut().reads += 1;
        Ok(self.borrow().table.clone())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), KernelError> {
        let mut kernel = self.borrow_mut();
        for batch in transaction.batches() {
            for operation in &batch.operations {
                if let Operation::AppendRules(name, rules) = operation
                    && rules.iter().any(|rule| rule.comment.as_deref() == kernel.refuse && rule.comment.is_some())
                {
                    return Err(KernelError { message: "refused".to_owned(), object: Some(name.clone()) });
                }
            }
            let table = kernel.table.get_or_insert_default();
            batch.operations.iter().for_each(|operation| perform(table, operation));
        }
        Ok(())
    }

    fn wait_for_packets(&mut self) {}

    fn replace(&mut self, ruleset: &Ruleset) -> Result<(), KernelError> {
        self.borrow_mut().table = Some(ruleset.clone());
        Ok(())
    }

    fn may_have_changed(&mut self) -> Result<bool, KernelError> {
        Ok(false)
    }

    fn foreign_changes(&mut self) -> Result<Option<ForeignChanges>, KernelError> {
        Ok(None)
    }

    fn counters(&mut self) -> Result<BTreeMap<Name, (u64, u64)>, KernelError> {
        Ok(BTreeMap::new())
    }

    fn forget(&mut self, _: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
        Ok(0)
    }

    fn survey(&mut self, _: &BTreeSet<IpAddr>) -> Result<Survey, KernelError> {
        Ok(Survey::default())
    }
}

fn pod(name: &str, address: &str) -> Change {
    Change::Pod(Pod {
        labels: [("app".to_owned(), name.to_owned())].into(),
        node: Some("node-1".into()),
        phase: Phase::Running,
        addresses: Addresses::accept([address.parse().unwrap()]).0,
        ..Pod::new(NamespacedName::new("shop", name))
    })
}

fn open_to_all(name: &str, app: &str) -> Change {
    Change::Policy(Policy {
        key: NamespacedName::new("shop", name),
        pod_selector: LabelSelector::labels([("app", app)]),
        isolates: Isolates { ingress: true, egress: false },
        ingress: vec![Rule { peers: Peers::Any, ports: Ports::Any }],
        egress: Vec::new(),
        unenforceable: Vec::new(),
    })
}

fn enforcer(kernel: &Shared) -> Enforcer<Shared> {
    let (metrics, _) = Metrics::new();
    let mut enforcer = Enforcer::new("node-1", Options::default(), kernel.clone(), Status::new(), metrics);
    enforcer.synced = true;
    enforcer.status.have("sync");
    enforcer
}

fn apply(enforcer: &mut Enforcer<Shared>, change: Change) {
    enforcer.note(change, &mut Cause::default());
    enforcer.enforce(&Cause::default(), Instant::now());
}

fn accepts(kernel: &Shared, chain: &str) -> Option<bool> {
    use palisade_ruleset::model::{Expression, Verdict};
    let kernel = kernel.borrow();
    let chain = kernel.table.as_ref()?.chains.get(&Name::new(chain))?;
    let accept = Expression::Verdict(Verdict::Return);
    Some(chain.rules.iter().any(|rule| rule.expressions.contains(&accept)))
}

#[test]
fn a_refused_policy_is_quarantined_and_the_rest_goes_on() {
    let kernel = Shared::default();
    let mut enforcer = enforcer(&kernel);
    apply(&mut enforcer, pod("web", "10.42.1.2"));
    apply(&mut enforcer, pod("db", "10.42.1.3"));
    assert!(enforcer.status.readiness().is_ok());

    kernel.borrow_mut().refuse = Some("bad ingress[0]");
    apply(&mut enforcer, open_to_all("bad", "web"));
    assert!(enforcer.status.readiness().unwrap_err().contains("refused"));
    assert_eq!(accepts(&kernel, "ingress/shop/bad"), None, "nothing of the refused batch is there");

    // The next attempt isolates the pods of the refused policy, and enforces what came meanwhile.
    apply(&mut enforcer, open_to_all("good", "db"));
    assert_eq!(accepts(&kernel, "ingress/shop/good"), None, "nothing is built on a table that nobody has read");
    let reads = kernel.borrow().reads;
    enforcer.synchronize(CommitKind::Full, &Cause::other("retry"));
    assert_eq!(kernel.borrow().reads, reads + 1, "after an error the table is read before it is changed");
    assert_eq!(accepts(&kernel, "ingress/shop/bad"), Some(false));
    assert_eq!(accepts(&kernel, "ingress/shop/good"), Some(true));
    assert!(enforcer.status.readiness().is_ok());
    assert_eq!(kernel.borrow().table.as_ref(), Some(enforcer.renderer.ruleset()));

    // A policy that is mended is out of quarantine.
    kernel.borrow_mut().refuse = None;
    apply(&mut enforcer, Change::PolicyGone(NamespacedName::new("shop", "bad")));
    apply(&mut enforcer, open_to_all("bad", "web"));
    assert_eq!(accepts(&kernel, "ingress/shop/bad"), Some(true));
}

#[test]
fn what_somebody_else_changed_is_put_right() {
    let kernel = Shared::default();
    let mut enforcer = enforcer(&kernel);
    apply(&mut enforcer, pod("web", "10.42.1.2"));
    apply(&mut enforcer, open_to_all("good", "web"));
    let isolated = Name::new("isolated4");
    let emptied = {
        let kernel = kernel.borrow();
        let set = kernel.table.as_ref().unwrap().sets.get(&isolated).unwrap();
        Patch {
            sets: [(isolated.clone(), element_changes(&set.elements, &BTreeMap::new()))].into(),
            ..Patch::default()
        }
    };
    assert!(matches!(emptied.sets.get(&isolated), Some(SetChange::Elements { .. })));
    emptied.apply(kernel.borrow_mut().table.as_mut().unwrap());
    enforcer.repair();
    assert_eq!(kernel.borrow().table.as_ref(), Some(enforcer.renderer.ruleset()));
}
