//! What the engine believes of its source, and the order of its steps, case by case.
//!
//! Seen to fail with each fault of `hack/mutations` in this crate that `faults.rs` cannot find: there the server
//! answers at once and truthfully, and the model has no in-flight packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use palisade_engine::doubt::Reason;
use palisade_engine::{
    Ask, Class, Done, Engine, Input, ListPart, NamespaceAnswer, NodeView, ObjectAnswer, Options, Step, Trouble,
};
use palisade_policy::input::{
    Addresses, Change, Isolates, Kind, LabelSelector, Labels, Namespace, NamespaceScope, NamespacedName, Object, Peer,
    Peers, Phase, Pod, Policy, Ports, Rule, State,
};
use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{Key, Ruleset};
use palisade_ruleset::name::Name;
use palisade_testkit::kernel::{ModelKernel, list, list_kind};

pub(crate) const NODE: &str = "node-1";

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

fn address(last: u8) -> IpAddr {
    [10, 42, 1, last].into()
}

fn pod(name: &str, node: &str, last: u8) -> Pod {
    Pod {
        node: Some(node.into()),
        phase: Phase::Running,
        addresses: Addresses::accept([address(last)]).0,
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..Pod::new(key(name))
    }
}

/// Isolates pods of this label for ingress.
fn deny(name: &str, app: &str) -> Policy {
    Policy {
        key: key(name),
        pod_selector: LabelSelector::labels([("app", app)]),
        isolates: Isolates { ingress: true, egress: false },
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

fn shop(terminating: bool) -> Namespace {
    Namespace { terminating, ..Namespace::new("shop", Labels::new()) }
}

/// A local pod, four pods of another node, and the policies of these names, each of which isolates the local pod.
pub(crate) fn state(policies: &[&str]) -> State {
    let mut state = State::default();
    state.apply(Change::Namespace(shop(false)));
    state.apply(Change::Pod(pod("web", NODE, 1)));
    (2..6).for_each(|last| state.apply(Change::Pod(pod(&format!("far-{last}"), "node-2", last))));
    policies.iter().for_each(|name| state.apply(Change::Policy(deny(name, "web"))));
    state
}

struct Scene {
    engine: Engine,
    kernel: ModelKernel,
    asked: Vec<Ask>,
}

impl Scene {
    fn new(state: &State) -> Self {
        let options = Options { source_answers: true, own_pod: Some(key("far-2")), ..Options::default() };
        let mut scene = Self { engine: Engine::new(NODE, options), kernel: ModelKernel::default(), asked: Vec::new() };
        list(&mut scene.engine, state);
        scene.run();
        assert!(scene.engine.is_settled());
        scene
    }

    /// Replaces the agent with another, whose first lists are these.
    fn start_again(self, state: &State) -> Self {
        let options = Options { source_answers: true, ..Options::default() };
        let mut scene = Self { engine: Engine::new(NODE, options), kernel: self.kernel, asked: Vec::new() };
        list(&mut scene.engine, state);
        scene.run_without_a_change();
        scene
    }

    /// Performs the pending steps, which change nothing in the kernel.
    fn run_without_a_change(&mut self) {
        let steps = self.run();
        assert!(!steps.iter().any(|step| matches!(step, Step::Commit(_) | Step::Replace)), "{steps:?}");
    }

    /// Performs the pending steps and returns them, except questions.
    fn run(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = self.engine.next_step() {
            if let Step::Ask(ask) = step {
                self.asked.push(ask);
                continue;
            }
            let done = self.kernel.perform(step.clone(), self.engine.ruleset()).expect("it is not a question");
            self.engine.done(done);
            steps.push(step);
        }
        steps
    }

    fn change(&mut self, change: Change) -> Vec<Step> {
        self.engine.take(Input::Changes(vec![change]));
        self.run()
    }

    fn answer(&mut self, answer: NamespaceAnswer) {
        self.engine.take(Input::Namespace { name: "shop".into(), answer });
        self.run();
    }

    fn asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asked)
    }

    /// Answers all questions about objects alike. Returns their names and the kinds to list again.
    fn answer_objects(&mut self, answer: ObjectAnswer) -> (Vec<String>, Vec<Kind>) {
        let (mut objects, mut lists) = (Vec::new(), Vec::new());
        for ask in self.asks() {
            match ask {
                Ask::ListAgain(kind) => lists.push(kind),
                Ask::Object { kind, key } => {
                    objects.push(key.to_string());
                    self.engine.take(Input::Object { kind, key, answer });
                }
                Ask::Namespace(name) => panic!("{name} is asked for"),
            }
        }
        self.run();
        (objects, lists)
    }

    fn list_policies(&mut self, names: &[&str]) {
        let policies = names.iter().map(|name| Object::Policy(deny(name, "web"))).collect();
        list_kind(&mut self.engine, Kind::NetworkPolicy, policies);
        self.run();
    }

    fn is_isolated(&self, last: u8) -> bool {
        chain(self.kernel.table.as_ref().unwrap(), last).is_some()
    }

    fn policies(&self) -> Vec<&str> {
        self.engine.index().state().policies.keys().map(|key| &*key.name).collect()
    }

    fn doubts(&self) -> Vec<(Kind, Reason)> {
        self.engine.doubts().collect()
    }

    fn list_pods(&mut self, names: &[(&str, &str, u8)]) {
        let pods = names.iter().map(|(name, node, last)| Object::Pod(pod(name, node, *last))).collect();
        list_kind(&mut self.engine, Kind::Pod, pods);
        self.run();
    }
}

/// The chain that a packet to an IP traverses.
fn chain(table: &Ruleset, last: u8) -> Option<String> {
    let element = table.sets.get(&Name::new("ingress4"))?.elements.get(&Key::Address(address(last)))?;
    element.verdict.as_ref()?.chain().map(|name| name.as_str().to_owned())
}

#[test]
fn a_policy_goes_when_it_is_known_that_its_namespace_stays() {
    let mut scene = Scene::new(&state(&["a"]));
    scene.change(Change::PolicyGone(key("a")));
    assert_eq!(scene.asks(), [Ask::Namespace("shop".into())]);
    assert_eq!((scene.policies(), scene.engine.held_deletions()), (vec!["a"], 1));
    scene.answer(NamespaceAnswer::Present(shop(false)));
    assert_eq!((scene.policies().len(), scene.engine.held_deletions()), (0, 0));
    assert_eq!(chain(scene.kernel.table.as_ref().unwrap(), 1), None);
}

#[test]
fn an_answer_is_none_about_deletions_that_came_after_the_question() {
    let mut scene = Scene::new(&state(&["a", "b"]));
    scene.change(Change::PolicyGone(key("a")));
    scene.change(Change::PolicyGone(key("b")));
    assert_eq!(scene.asks(), [Ask::Namespace("shop".into())]);
    // It was sent before the namespace ended.
    scene.answer(NamespaceAnswer::Present(shop(false)));
    assert_eq!(scene.policies(), ["b"]);
    assert_eq!(scene.asks(), [Ask::Namespace("shop".into())]);
    scene.answer(NamespaceAnswer::Present(shop(true)));
    assert_eq!(scene.engine.index().state().tombstones, BTreeSet::from([key("b")]));
    assert!(chain(scene.kernel.table.as_ref().unwrap(), 1).is_some(), "the pod is there, and isolated");
}

#[test]
fn a_namespace_that_is_gone_keeps_its_policies_until_its_watch_says_so() {
    let mut scene = Scene::new(&state(&["a"]));
    scene.change(Change::PolicyGone(key("a")));
    scene.answer(NamespaceAnswer::Absent);
    assert_eq!((scene.policies(), scene.engine.held_deletions()), (vec!["a"], 1));
    scene.change(Change::NamespaceGone("shop".into()));
    assert_eq!(scene.engine.index().state().tombstones, BTreeSet::from([key("a")]));
    assert!(chain(scene.kernel.table.as_ref().unwrap(), 1).is_some());
}

#[test]
fn a_list_that_takes_away_too_much_is_believed_the_second_time() {
    let mut scene = Scene::new(&state(&[]));
    for (names, reason, asked) in [
        (vec![("web", NODE, 1), ("far-2", "node-2", 2)], Reason::Half, vec!["shop/far-3", "shop/far-4", "shop/far-5"]),
        // The engine asks about the agent's own pod and those of its node first; it knows that the others are gone.
        (Vec::new(), Reason::Canary, vec!["shop/far-2", "shop/web"]),
    ] {
        scene.list_pods(&names);
        assert_eq!(scene.doubts(), [(Kind::Pod, reason)]);
        let asked = asked.into_iter().map(str::to_owned).collect();
        assert_eq!(scene.answer_objects(ObjectAnswer::Absent), (asked, vec![Kind::Pod]));
        assert_eq!(scene.engine.index().state().pods.len(), 5);
    }
    // It lacks the same objects as the previous list.
    scene.list_pods(&[("web", NODE, 1), ("far-2", "node-2", 2)]);
    assert_eq!((scene.doubts(), scene.asks()), (Vec::new(), Vec::new()));
    assert_eq!(scene.engine.index().state().pods.len(), 2);
}

#[test]
fn a_list_without_the_last_policy_that_isolates_a_pod_is_doubted() {
    let mut start = state(&["a", "b"]);
    (0..9).for_each(|number| start.apply(Change::Policy(deny(&format!("other-{number}"), "other"))));
    let others: Vec<_> = (0..9).map(|number| Object::Policy(deny(&format!("other-{number}"), "other"))).collect();
    let mut scene = Scene::new(&start);
    let with = |names: &[&str]| {
        let isolating = names.iter().map(|name| Object::Policy(deny(name, "web")));
        others.iter().cloned().chain(isolating).collect::<Vec<_>>()
    };
    list_kind(&mut scene.engine, Kind::NetworkPolicy, with(&["a"]));
    assert_eq!(scene.doubts(), [], "one of two is left");
    scene.answer(NamespaceAnswer::Present(shop(false)));
    list_kind(&mut scene.engine, Kind::NetworkPolicy, with(&[]));
    assert_eq!(scene.doubts(), [(Kind::NetworkPolicy, Reason::Isolation)]);
    list_kind(&mut scene.engine, Kind::NetworkPolicy, with(&["a"]));
    assert_eq!(scene.doubts(), [], "it was false");
}

#[test]
fn nothing_is_done_before_everything_is_listed() {
    let start = state(&["a"]);
    let options = Options { source_answers: true, ..Options::default() };
    let mut engine = Engine::new(NODE, options);
    list_kind(&mut engine, Kind::Namespace, vec![Object::Namespace(shop(false))]);
    list_kind(&mut engine, Kind::Pod, start.every_pod().cloned().map(Object::Pod).collect());
    assert_eq!(engine.next_step(), None);
    engine.take(Input::List(ListPart::Begin(Kind::NetworkPolicy)));
    assert_eq!(engine.next_step(), None);
    engine.take(Input::List(ListPart::End(Kind::NetworkPolicy)));
    assert_eq!(engine.next_step(), Some(Step::Open));
}

#[test]
fn first_lists_that_would_open_what_the_table_isolates_are_asked_for_again() {
    let mut scene = Scene::new(&state(&["a"])).start_again(&state(&[]));
    assert_eq!(scene.answer_objects(ObjectAnswer::Present), (vec!["shop/a".to_owned()], Kind::ALL.to_vec()));
    list(&mut scene.engine, &state(&["a"]));
    scene.run();
    assert!(scene.engine.is_settled() && scene.is_isolated(1));
}

#[test]
fn first_lists_are_not_believed_while_the_server_has_what_the_table_names() {
    let without_pods = || State { pods: BTreeMap::new(), ..state(&["a"]) };
    for (first, asked) in [(state(&[]), "shop/a"), (without_pods(), "shop/web")] {
        let kind = if asked == "shop/a" { Kind::NetworkPolicy } else { Kind::Pod };
        let mut scene = Scene::new(&state(&["a"])).start_again(&first);
        for _ in 0..3 {
            assert_eq!(scene.answer_objects(ObjectAnswer::Present), (vec![asked.to_owned()], Kind::ALL.to_vec()));
            assert!(scene.doubts().contains(&(kind, Reason::Object)), "{:?}", scene.doubts());
            list(&mut scene.engine, &first);
            scene.run_without_a_change();
        }
        // No answer has come yet.
        let asks = scene.asks();
        list(&mut scene.engine, &first);
        scene.run_without_a_change();
        assert!(scene.doubts().contains(&(kind, Reason::Unanswered)), "{:?}", scene.doubts());
        assert_eq!(scene.asks(), asks);
        scene.asked = asks;
        scene.answer_objects(ObjectAnswer::Absent);
        list(&mut scene.engine, &first);
        scene.run();
        assert!(scene.engine.is_settled() && !scene.is_isolated(1), "it is gone");
    }
}

#[test]
fn a_list_is_not_believed_while_the_server_has_what_it_lacks() {
    let mut scene = Scene::new(&state(&["a", "b"]));
    scene.list_policies(&[]);
    for _ in 0..5 {
        let asked = vec!["shop/a".to_owned(), "shop/b".to_owned()];
        assert_eq!(scene.answer_objects(ObjectAnswer::Present), (asked, vec![Kind::NetworkPolicy]));
        assert_eq!(scene.doubts(), [(Kind::NetworkPolicy, Reason::Object)]);
        scene.list_policies(&[]);
        assert!(scene.is_isolated(1) && scene.policies() == ["a", "b"]);
    }
    // They are deleted at last, and the server says so.
    scene.answer_objects(ObjectAnswer::Absent);
    scene.list_policies(&[]);
    assert_eq!((scene.doubts(), scene.asks()), (Vec::new(), vec![Ask::Namespace("shop".into())]));
}

#[test]
fn a_list_waits_for_the_answer_about_what_it_lacks_but_not_for_a_right() {
    let mut scene = Scene::new(&state(&["a"]));
    scene.list_policies(&[]);
    scene.list_policies(&[]);
    assert_eq!(scene.doubts(), [(Kind::NetworkPolicy, Reason::Unanswered)]);
    scene.answer_objects(ObjectAnswer::Refused);
    scene.list_policies(&[]);
    assert_eq!(scene.doubts(), []);
    // A list that has everything is believed, whatever the answers.
    let mut scene = Scene::new(&state(&["a"]));
    scene.list_policies(&[]);
    scene.list_policies(&["a"]);
    assert_eq!(scene.doubts(), []);
}

#[test]
fn the_engine_asks_before_it_believes() {
    let mut scene = Scene::new(&state(&["a", "b", "c", "d", "e", "f", "g"]));
    scene.list_policies(&[]);
    assert_eq!(scene.answer_objects(ObjectAnswer::Absent).0, ["shop/a", "shop/b", "shop/c"]);
    // It has the objects that were asked for, and lacks most of the rest, like the previous list.
    scene.list_policies(&["a", "b", "c"]);
    assert_eq!(scene.doubts(), [(Kind::NetworkPolicy, Reason::Half)]);
    assert_eq!(scene.answer_objects(ObjectAnswer::Absent).0, ["shop/d", "shop/e", "shop/f"]);
}

#[test]
fn an_object_that_the_watch_deleted_is_no_witness() {
    let mut scene = Scene::new(&state(&["a", "b"]));
    scene.change(Change::PolicyGone(key("a")));
    assert_eq!(scene.asks(), [Ask::Namespace("shop".into())]);
    scene.list_policies(&[]);
    assert_eq!(scene.answer_objects(ObjectAnswer::Present).0, ["shop/b"]);
    scene.list_policies(&["b"]);
    assert_eq!((scene.doubts(), scene.policies()), (Vec::new(), vec!["a", "b"]));
}

#[test]
fn a_pod_that_claims_an_address_of_the_node_is_never_isolated() {
    let options = Options { source_answers: true, ..Options::default() };
    let mut engine = Engine::new(NODE, options);
    let mut kernel = ModelKernel::default();
    list(&mut engine, &state(&["a"]));
    let mut looked = false;
    while let Some(step) = engine.next_step() {
        let done = match kernel.perform(step, engine.ruleset()).expect("nothing is asked") {
            Done::Looked(Ok(view)) => {
                looked = true;
                Done::Looked(Ok(NodeView { addresses: [address(1)].into(), ..view }))
            }
            other => other,
        };
        engine.done(done);
        let table = kernel.table.as_ref();
        assert_eq!(table.and_then(|table| chain(table, 1)), None, "the node's address is isolated");
    }
    assert!(looked && engine.is_settled());
    assert!(kernel.table.as_ref().unwrap().sets.contains_key(&Name::new("ingress4")), "the table is there");
}

#[test]
fn a_commit_waits_for_packets_that_have_met_the_table_before_the_last() {
    let options = Options { source_answers: true, ..Options::default() };
    let mut scene = Scene { engine: Engine::new(NODE, options), kernel: ModelKernel::default(), asked: Vec::new() };
    list(&mut scene.engine, &state(&["a"]));
    let mut steps = scene.run();
    for change in [Change::Policy(deny("b", "web")), Change::Policy(deny("c", "web"))] {
        let begin = steps.len();
        steps.extend(scene.change(change));
        let is_commit = |step: &Step| matches!(step, Step::Commit(_) | Step::Replace);
        let last = steps[..begin].iter().rposition(is_commit).unwrap();
        let next = begin + steps[begin..].iter().position(is_commit).unwrap();
        assert!(steps[last..next].contains(&Step::WaitForPackets), "{:?}", &steps[last..next]);
    }
}

#[test]
fn flows_are_deleted_when_their_address_is_closed_and_no_packet_of_them_is_under_way() {
    let mut scene = Scene::new(&state(&["a"]));
    scene.engine.take(Input::Changes(vec![Change::PodGone(key("web")), Change::Pod(pod("next", NODE, 1))]));
    let mut before = None;
    while let Some(step) = scene.engine.next_step() {
        if let Step::Forget(addresses) = &step {
            assert_eq!(addresses, &BTreeSet::from([address(1)]));
            assert_eq!(before, Some(Step::WaitForPackets));
            assert_eq!(chain(scene.kernel.table.as_ref().unwrap(), 1).as_deref(), Some("ingress/reused-ip"));
            scene
                .engine
                .done(Done::Forgot(palisade_engine::Forgotten { finished: addresses.clone(), ..Default::default() }));
        } else {
            let done = scene.kernel.perform(step.clone(), scene.engine.ruleset()).unwrap();
            scene.engine.done(done);
        }
        before = Some(step);
    }
    assert!(scene.engine.is_settled());
    assert_ne!(chain(scene.kernel.table.as_ref().unwrap(), 1).as_deref(), Some("ingress/reused-ip"));
}

/// A kernel that lacks an nftables module answers as if the table had changed.
#[test]
fn an_object_that_is_refused_after_each_reading_is_quarantined() {
    let mut scene = Scene::new(&state(&["a"]));
    let peer = Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector::labels([("app", "web")]) };
    let ingress = vec![Rule { peers: Peers::Of(vec![peer]), ports: Ports::Any }];
    scene.engine.take(Input::Changes(vec![Change::Policy(Policy { ingress, ..deny("b", "web") })]));
    let adds = |step: &Step| match step {
        Step::Commit(batch) => batch.operations.iter().find_map(|operation| match operation {
            Operation::AddSet(name, _) if name.as_str().starts_with("pods/") => Some(name.clone()),
            _ => None,
        }),
        _ => None,
    };
    let mut refused = 0;
    while refused < 3 {
        scene.engine.retry();
        while let Some(step) = scene.engine.next_step() {
            let done = match adds(&step) {
                Some(object) => {
                    assert!(scene.engine.renderer().quarantined().next().is_none());
                    refused += 1;
                    let trouble = Trouble { class: Class::Stale, object: Some(object), message: "ENOENT".to_owned() };
                    Done::Committed(Err(trouble))
                }
                None => scene.kernel.perform(step, scene.engine.ruleset()).unwrap(),
            };
            scene.engine.done(done);
        }
    }
    assert!(scene.engine.renderer().quarantined().next().is_some());
    scene.engine.retry();
    assert!(!scene.run().iter().any(|step| adds(step).is_some()));
    assert!(scene.engine.is_settled());
    assert!(chain(scene.kernel.table.as_ref().unwrap(), 1).is_some(), "the pod is isolated");
}

#[test]
fn what_is_new_in_a_second_list_is_judged_and_asked_about_by_itself() {
    let others = |names: &[&str]| names.iter().map(|name| Object::Policy(deny(name, "other"))).collect::<Vec<_>>();
    let mut start = state(&[]);
    others(&["a", "b", "c", "d", "e", "f", "g"]).into_iter().for_each(|policy| start.apply(Change::from(policy)));
    let mut scene = Scene::new(&start);
    list_kind(&mut scene.engine, Kind::NetworkPolicy, others(&["f", "g"]));
    scene.run();
    scene.answer_objects(ObjectAnswer::Absent);
    for reason in [Reason::Half, Reason::Object, Reason::Object] {
        list_kind(&mut scene.engine, Kind::NetworkPolicy, Vec::new());
        scene.run();
        assert_eq!(scene.doubts(), [(Kind::NetworkPolicy, reason)]);
        // Objects that are known to be gone say nothing about the two new ones.
        let (asked, _) = scene.answer_objects(ObjectAnswer::Present);
        assert!(reason == Reason::Object || asked == ["shop/f", "shop/g"], "{asked:?}");
    }
}
