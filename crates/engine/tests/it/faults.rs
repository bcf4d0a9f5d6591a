//! Whichever step fails, and wherever the agent is killed: no packet passes that should not, and in the end the table
//! matches the objects and no flow is left to delete.
//!
//! `PALISADE_STEPS` sets the total number of steps, `PALISADE_SEED` the first seed.
//!
//! Seen to fail when: a failed commit is followed by another without reading the table; IPs whose flows are due are
//! dropped with a failed commit; an IP that leaves a pod while its flows are being deleted counts as done; the owners
//! of IPs in a predecessor's table are ignored; policies of a terminating namespace are removed without a question; a
//! list that stays empty is believed although the server has the missing objects.

mod marks;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use palisade_engine::{
    Ask, Class, Done, Engine, Forgotten, Input, NamespaceAnswer, ObjectAnswer, Options, Report, Step,
};
use palisade_policy::flow::Transport;
use palisade_policy::index::Index;
use palisade_policy::input::{Change, Family, Kind, Object, Protocol};
use palisade_ruleset::cache::{Slice, Stale};
use palisade_ruleset::model::{Hook, Key, Ruleset};
use palisade_ruleset::name::Name;
use palisade_ruleset::render::{Established, Options as RenderOptions, render};
use palisade_ruleset::walk::{End, Packet, walk};
use palisade_testkit::generate::{History, arb_history, ports_in_use};
use palisade_testkit::kernel::{Fault, ModelKernel, hand_in, list, list_kind};
use palisade_testkit::trials::Trials;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use marks::Marks;
use truth::Truth;

/// Steps performed in a test run.
const STEPS: usize = 40_000;
const NODE: &str = "node-1";

/// What happens at a step.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Well,
    Fault(Fault),
    /// The agent is killed before the step, or right after it.
    Kill {
        after: bool,
    },
    /// Another program changes the table.
    Meddle,
    /// The next event arrives first.
    Event,
    /// The thread that deletes flows finishes, or fails.
    Flows {
        finished: bool,
    },
    /// A question is answered.
    Answer,
    /// Lists of a kind are empty from here on, and one arrives; or they are true again. Single objects are always true.
    Lie {
        kind: Kind,
        empty: bool,
    },
    QuarantineEnds,
}

#[derive(Clone, Debug)]
struct Course {
    history: History,
    turns: Vec<Turn>,
    has_cache: bool,
}

fn arb_turn() -> impl Strategy<Value = Turn> {
    let class = prop::sample::select(vec![
        Class::Object,
        Class::Stale,
        Class::Resources,
        Class::Denied,
        Class::Owned,
        Class::Unknown,
    ]);
    prop_oneof![
        8 => Just(Turn::Well),
        3 => class.prop_map(|class| Turn::Fault(Fault::Refused(class))),
        2 => Just(Turn::Fault(Fault::AnswerLost)),
        1 => any::<bool>().prop_map(|after| Turn::Kill { after }),
        1 => Just(Turn::Meddle),
        6 => Just(Turn::Event),
        2 => prop::bool::weighted(0.7).prop_map(|finished| Turn::Flows { finished }),
        3 => Just(Turn::Answer),
        1 => (prop::sample::select(Kind::ALL.to_vec()), prop::bool::weighted(0.7))
            .prop_map(|(kind, empty)| Turn::Lie { kind, empty }),
        1 => Just(Turn::QuarantineEnds),
    ]
}

fn arb_course() -> impl Strategy<Value = Course> {
    (arb_history(), prop::collection::vec(arb_turn(), 1..80), prop::bool::weighted(0.8))
        .prop_map(|(history, turns, has_cache)| Course { history, turns, has_cache })
}

#[test]
fn no_fault_opens_anything_and_the_table_catches_up() {
    Trials::of("steps with faults", "PALISADE_STEPS", STEPS).run(arb_course, |course| Scene::new(course).play());
}

struct Scene<'a> {
    course: &'a Course,
    truth: Truth,
    events: std::slice::Iter<'a, Change>,
    engine: Engine,
    kernel: ModelKernel,
    /// IPs whose flows a thread is deleting.
    forgetting: Option<BTreeSet<IpAddr>>,
    /// Questions without an answer.
    asked: Vec<Ask>,
    /// Kinds whose lists are empty.
    empty: BTreeSet<Kind>,
    /// IPs with flows of a pod that has left them, and that pod as the table named it.
    stale: BTreeMap<IpAddr, String>,
    /// Stamps that a thread is clearing.
    clearing: Option<Stale>,
    /// The marks of flows in conntrack.
    marks: Marks,
    /// The table when it last was in step, and what the objects have said since.
    allowed: Vec<Ruleset>,
    steps: usize,
}

fn new_engine(has_cache: bool) -> Engine {
    let verdict_cache = has_cache.then(Slice::default);
    Engine::new(NODE, Options { source_answers: true, verdict_cache, ..Options::default() })
}

impl<'a> Scene<'a> {
    fn new(course: &'a Course) -> Self {
        let truth = Truth::of(&course.history.start);
        let mut engine = new_engine(course.has_cache);
        list(&mut engine, &truth.state());
        Self {
            course,
            truth,
            events: course.history.changes.iter(),
            engine,
            kernel: ModelKernel::default(),
            forgetting: None,
            clearing: None,
            marks: Marks::default(),
            asked: Vec::new(),
            empty: BTreeSet::new(),
            stale: BTreeMap::new(),
            allowed: Vec::new(),
            steps: 0,
        }
    }

    fn play(mut self) -> Result<usize, TestCaseError> {
        self.allow_now();
        for turn in &self.course.turns {
            self.turn(*turn)?;
        }
        // From here on nothing fails.
        self.empty.clear();
        while self.next_event() {}
        for _ in 0..100 {
            self.engine.retry();
            self.engine.retry_quarantined();
            self.engine.suspect();
            self.run_well()?;
            for _ in 0..self.asked.len() {
                self.answer()?;
            }
            self.flows_done(true);
        }
        self.run_well()?;
        self.assert_caught_up()
    }

    fn turn(&mut self, turn: Turn) -> Result<(), TestCaseError> {
        match turn {
            Turn::Event => drop(self.next_event()),
            Turn::Flows { finished } => self.flows_done(finished),
            Turn::Answer => self.answer()?,
            Turn::Lie { kind, empty } => {
                if empty {
                    self.empty.insert(kind);
                } else {
                    self.empty.remove(&kind);
                }
                self.list(kind)?;
            }
            Turn::QuarantineEnds => self.engine.retry_quarantined(),
            Turn::Meddle => self.meddle(),
            Turn::Kill { after: false } => self.kill(),
            Turn::Kill { after: true } => {
                self.step(None)?;
                self.kill();
            }
            Turn::Well => self.step(None)?,
            Turn::Fault(fault) => self.step(Some(fault))?,
        }
        Ok(())
    }

    /// The next event happens and reaches the engine.
    fn next_event(&mut self) -> bool {
        let Some(change) = self.events.next() else { return false };
        // A list of this kind that arrives by itself is true.
        match change {
            Change::Pods(_) => drop(self.empty.remove(&Kind::Pod)),
            Change::Namespaces(_) => drop(self.empty.remove(&Kind::Namespace)),
            Change::Policies(_) => drop(self.empty.remove(&Kind::NetworkPolicy)),
            _ => {}
        }
        let before = self.truth.clone();
        self.truth.apply(change);
        self.note_departures(&before);
        hand_in(&mut self.engine, change.clone());
        self.allow_now();
        true
    }

    /// An IP that a pod has left keeps its flows if the table had it as a local pod's.
    fn note_departures(&mut self, before: &Truth) {
        let owners = |truth: &Truth| -> BTreeMap<IpAddr, BTreeSet<String>> {
            let mut owners: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
            for pod in truth.pods.values() {
                for address in pod.claims() {
                    owners.entry(address).or_default().insert(pod.key.to_string());
                }
            }
            owners
        };
        let after = owners(&self.truth);
        for (address, pods) in owners(before) {
            let left: Vec<_> =
                pods.iter().filter(|pod| after.get(&address).is_none_or(|now| !now.contains(*pod))).collect();
            if let [pod] = left[..]
                && self.named_in_table(address).as_deref() == Some(pod)
            {
                self.stale.insert(address, pod.clone());
            }
        }
    }

    /// The pod to which the table says a local IP belongs.
    fn named_in_table(&self, address: IpAddr) -> Option<String> {
        let table = self.kernel.table.as_ref()?;
        let set = table.sets.get(&Name::new(&format!("pod-to-itself{}", Family::of(address).digit())))?;
        set.elements.get(&Key::AddressPair(address, address))?.comment.as_deref().map(str::to_owned)
    }

    fn flows_done(&mut self, finished: bool) {
        if let Some(stale) = self.clearing.take() {
            if finished {
                self.marks.clear(stale);
            }
            self.engine.done(Done::ClearedStamps { all: finished });
        }
        let Some(addresses) = self.forgetting.take() else { return };
        let mut done = Forgotten::default();
        if finished {
            for address in &addresses {
                // A pod that left meanwhile may have flows that the dump missed.
                self.stale.remove(address);
            }
            done.finished = addresses;
        } else {
            done.unfinished = addresses;
        }
        self.engine.done(Done::Forgot(done));
    }

    fn answer(&mut self) -> Result<(), TestCaseError> {
        if self.asked.is_empty() {
            return Ok(());
        }
        match self.asked.remove(0) {
            Ask::Namespace(name) => {
                let answer = match self.truth.namespaces.get(&name) {
                    Some(namespace) => NamespaceAnswer::Present(namespace.clone()),
                    None => NamespaceAnswer::Absent,
                };
                self.engine.take(Input::Namespace { name, answer });
            }
            Ask::Object { kind, key } => {
                let is_there = self.truth.names(kind).contains(&key);
                let answer = if is_there { ObjectAnswer::Present } else { ObjectAnswer::Absent };
                self.engine.take(Input::Object { kind, key, answer });
            }
            Ask::ListAgain(kind) => self.list(kind)?,
        }
        self.allow_now();
        Ok(())
    }

    /// A list arrives, empty if `empty` says so; then no existing object may go.
    fn list(&mut self, kind: Kind) -> Result<(), TestCaseError> {
        if !self.empty.contains(&kind) {
            let state = self.truth.state();
            let objects = match kind {
                Kind::Pod => state.every_pod().cloned().map(Object::Pod).collect(),
                Kind::Namespace => state.namespaces.into_values().map(Object::Namespace).collect(),
                Kind::NetworkPolicy => state.policies.into_values().map(Object::Policy).collect(),
            };
            list_kind(&mut self.engine, kind, objects);
            self.allow_now();
            return Ok(());
        }
        let known = |scene: &Self| {
            let known = Truth::of(scene.engine.index().state()).names(kind);
            known.intersection(&scene.truth.names(kind)).cloned().collect::<BTreeSet<_>>()
        };
        let before = known(self);
        list_kind(&mut self.engine, kind, Vec::new());
        prop_assert_eq!(before, known(self), "an empty list of {} is believed", kind);
        Ok(())
    }

    /// Another program deletes the table, empties a map or makes the table dormant. What that opens is not the engine's
    /// fault.
    fn meddle(&mut self) {
        let Some(table) = &mut self.kernel.table else { return };
        match self.steps % 3 {
            0 => self.kernel.table = None,
            1 => self.kernel.dormant = true,
            _ => table.sets.values_mut().for_each(|set| set.elements.clear()),
        }
        self.allowed.extend(self.kernel.table.clone());
        self.kernel.meddled = true;
        self.stale.clear();
        self.engine.suspect();
    }

    /// Another agent adopts what is in the kernel.
    fn kill(&mut self) {
        self.engine = new_engine(self.course.has_cache);
        (self.forgetting, self.clearing) = (None, None);
        self.asked.clear();
        // False first lists have their own tests.
        self.empty.clear();
        list(&mut self.engine, &self.truth.state());
        self.allowed.extend(self.kernel.table.clone());
        self.allow_now();
    }

    /// From here on, what the objects say may be in force.
    fn allow_now(&mut self) {
        let index = Index::build(NODE, self.engine.index().state());
        self.allowed.push(render(index.compiled(), &RenderOptions::default()));
    }

    fn step(&mut self, fault: Option<Fault>) -> Result<(), TestCaseError> {
        self.engine.retry();
        let Some(step) = self.engine.next_step() else { return Ok(()) };
        self.steps += 1;
        match step {
            Step::Ask(ask) => self.asked.push(ask),
            Step::Forget(addresses) => {
                prop_assert!(self.forgetting.is_none(), "two dumps at a time");
                self.forgetting = Some(addresses);
            }
            Step::ClearStamps(stale) => {
                prop_assert!(self.clearing.is_none(), "two dumps at a time");
                self.clearing = Some(stale);
            }
            step => {
                let wanted = self.engine.ruleset().clone();
                let done = match fault {
                    Some(fault) => self.kernel.fail(step, &wanted, fault),
                    None => self.kernel.perform(step, &wanted),
                };
                self.engine.done(done.unwrap());
                self.nothing_is_open()?;
            }
        }
        if self.engine.is_in_step() && self.kernel.is_as_wanted(&self.engine) {
            self.allowed.clear();
            self.allowed.extend(self.kernel.table.clone());
            self.allow_now();
        }
        self.engine.take_reports();
        Ok(())
    }

    fn run_well(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..10_000 {
            let before = self.steps;
            self.step(None)?;
            if self.steps == before {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("the steps do not end"))
    }

    /// The table passes only packets that it, or the objects since it was last in step, allowed; whatever stamps their
    /// flows have got so far.
    fn nothing_is_open(&mut self) -> Result<(), TestCaseError> {
        let Some(table) = self.kernel.table.as_ref().filter(|_| !self.kernel.dormant) else { return Ok(()) };
        if !table.chains.contains_key(&Name::new("forward")) {
            return Ok(());
        }
        for packet in self.packets() {
            let end = |ruleset| walk(ruleset, &packet).map(|walked| walked.end);
            let walked = walk(table, &self.marks.on(&packet)).map_err(|invalid| {
                TestCaseError::fail(format!(
                    "{invalid}: sets {:?}, chains {:?}",
                    table.sets.keys().collect::<Vec<_>>(),
                    table.chains.keys().collect::<Vec<_>>()
                ))
            })?;
            let passes = walked.end == End::Accept;
            self.marks.keep(&packet, &walked);
            let may = self.allowed.iter().any(|ruleset| end(ruleset).is_ok_and(|end| end == End::Accept));
            prop_assert!(!passes || may, "{packet:?} passes, and nothing ever allowed it");
        }
        for (address, former) in &self.stale {
            prop_assert!(
                !lets_another_in(table, *address, former),
                "{address} has flows of {former}, and another pod has rules of its own there"
            );
        }
        Ok(())
    }

    fn packets(&self) -> Vec<Packet> {
        let state = self.engine.index().state();
        let addresses: BTreeSet<IpAddr> = state.every_pod().flat_map(|pod| pod.addresses.iter()).collect();
        let mut transports: Vec<_> =
            ports_in_use(state).into_iter().map(|(protocol, port)| Transport::Port(protocol, port)).take(3).collect();
        transports.extend([Transport::Portless, Transport::Port(Protocol::Tcp, 7)]);
        let local: Vec<_> = self.engine.index().compiled().subjects.keys().copied().take(3).collect();
        let mut packets = Vec::new();
        for (number, one) in local.iter().enumerate() {
            for other in addresses.iter().filter(|other| Family::of(**other) == Family::of(*one)).take(6) {
                let transport = transports[(number + packets.len()) % transports.len()];
                packets.push(Packet::request(Hook::Forward, *one, *other, transport));
                packets.push(Packet::request(Hook::Forward, *other, *one, transport));
            }
        }
        packets
    }

    fn assert_caught_up(mut self) -> Result<usize, TestCaseError> {
        prop_assert!(self.engine.is_settled(), "{:?}", self.engine.back_off());
        prop_assert_eq!(self.engine.held_deletions(), 0);
        prop_assert_eq!(self.engine.doubts().count(), 0);
        let state = self.engine.index().state();
        prop_assert_eq!(&state.pods, &self.truth.pods);
        prop_assert_eq!(&state.namespaces, &self.truth.namespaces);
        let mut policies = state.policies.clone();
        policies.retain(|key, _| !state.tombstones.contains(key));
        prop_assert_eq!(&policies, &self.truth.policies);
        let index = Index::build(NODE, state);
        let established = if self.course.has_cache { Established::Remember } else { Established::Judge };
        let options = RenderOptions { established, ..RenderOptions::default() };
        let scratch = render(index.compiled(), &options);
        prop_assert_eq!(self.engine.renderer().quarantined().count(), 0);
        prop_assert_eq!(self.engine.ruleset(), &scratch);
        prop_assert!(self.kernel.is_as_wanted(&self.engine));
        let local =
            self.truth.pods.values().filter(|pod| pod.node.as_deref() == Some(NODE)).flat_map(|pod| pod.claims());
        let local: BTreeSet<_> = local.collect();
        // The next agent takes a pod that came back with its name and IP, while no agent ran, for the same pod.
        let is_another = |(address, former): &(&IpAddr, &String)| {
            local.contains(*address) && self.engine.index().owner_name(**address).is_none_or(|now| **now != ***former)
        };
        let left: Vec<_> = self.stale.iter().filter(is_another).collect();
        prop_assert!(left.is_empty(), "flows of former pods are left at {left:?}");
        let failed = self.engine.take_reports().into_iter().any(|report| matches!(report, Report::Failed { .. }));
        prop_assert!(!failed);
        Ok(self.steps)
    }
}

/// Whether an isolated IP is under the rules of another pod than the one whose flows are left.
fn lets_another_in(table: &Ruleset, address: IpAddr, former: &str) -> bool {
    ["ingress", "egress"].iter().any(|direction| {
        let map = table.sets.get(&Name::new(&format!("{direction}{}", Family::of(address).digit())));
        let element = map.and_then(|map| map.elements.get(&Key::Address(address)));
        element.is_some_and(|element| {
            let held = Name::new(&format!("{direction}/reused-ip"));
            let scratch = |name: &Name| name.as_str().starts_with("scratch/");
            let chain = element.verdict.as_ref().and_then(palisade_ruleset::model::Verdict::chain);
            let open = chain.is_some_and(|chain| *chain != held && !scratch(chain));
            open && element.comment.as_deref().is_some_and(|owner| owner != former && !owner.contains(former))
        })
    })
}
