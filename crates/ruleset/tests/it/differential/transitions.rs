//! While a node's table changes from one state to the next, no packet passes that neither state allows, and none is
//! lost that both allow: on the model, for every batch of the transaction, and for every moment at which the batch may
//! overtake an in-flight packet, together with earlier batches that were not waited for (see `walk_across`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use palisade_policy::flow::Transport;
use palisade_policy::index::{Dirty, Index};
use palisade_policy::input::{
    Addresses, Change, Direction, Family, Isolates, LabelSelector, Labels, Namespace, NamespacedName, Peers, Phase,
    Pod, Policy, Ports, Protocol, Rule, State,
};
use palisade_ruleset::cache::{self, Slice, Stamp};
use palisade_ruleset::change::{Batch, Patch, Transaction};
use palisade_ruleset::model::{Hook, Key, Ruleset};
use palisade_ruleset::render::{Established, Options, Renderer, gates, render};
use palisade_ruleset::walk::{End, Flow, Later, Packet, Walk, walk, walk_across};
use palisade_testkit::generate::{History, arb_history, ports_in_use};
use palisade_testkit::table::{perform, with_stamp};
use palisade_testkit::trials::Trials;
use proptest::prelude::*;
use proptest::sample::Index as Pick;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// Walks of a packet during a transition, in a test run.
const WALKS: usize = 300_000;
/// Walks per requested verdict.
const WALKS_PER_VERDICT: usize = 3;
/// Requested verdicts per in-turn change.
const VERDICTS_PER_TURN: usize = 4_000;

/// A history, cut into commits, and the in-flight packets.
#[derive(Clone, Debug)]
struct Course {
    history: History,
    node: u8,
    /// Whether the node's pod ranges are known, so that unknown IPs are blocked while isolated pods are starting.
    knows_ranges: bool,
    /// The maximum number of events of a kind in one commit.
    together: usize,
    /// From, to, transport.
    packets: Vec<(Pick, Pick, Pick)>,
}

fn arb_course() -> impl Strategy<Value = Course> {
    let packets = prop::collection::vec(any::<(Pick, Pick, Pick)>(), 8..24);
    (arb_history(), 1_u8..=3, any::<bool>(), 1_usize..4, packets).prop_map(
        |(history, node, knows_ranges, together, packets)| Course { history, node, knows_ranges, together, packets },
    )
}

#[test]
fn an_in_flight_packet_is_judged_as_before_or_as_after() {
    Trials::of("walks in transition", "PALISADE_VERDICTS", WALKS / WALKS_PER_VERDICT)
        .times(WALKS_PER_VERDICT)
        .run(arb_course, follow);
}

/// Two pods of a node change their chains at once: one could send only before, the other may receive only afterwards.
#[test]
fn no_packet_combines_one_pods_past_with_anothers_future() {
    let policy = |name: &str, label: &str, direction: Direction, open: bool| Policy {
        key: NamespacedName::new("shop", name),
        pod_selector: LabelSelector::labels([("is", label)]),
        isolates: Isolates { ingress: direction == Direction::Ingress, egress: direction == Direction::Egress },
        ingress: if open { vec![Rule { peers: Peers::Any, ports: Ports::Any }] } else { Vec::new() },
        egress: if open { vec![Rule { peers: Peers::Any, ports: Ports::Any }] } else { Vec::new() },
        unenforceable: Vec::new(),
    };
    let pod = |name: &str, last: u8, label: &str| {
        Change::Pod(Pod {
            node: Some("node-1".into()),
            phase: Phase::Running,
            addresses: Addresses::accept([IpAddr::from([10, 42, 1, last])]).0,
            labels: [("is".to_owned(), label.to_owned())].into(),
            ..Pod::new(NamespacedName::new("shop", name))
        })
    };
    let mut start = State::default();
    start.apply(Change::Namespace(Namespace::new("shop", Labels::new())));
    for (name, label, direction, open) in [
        ("speaks", "talker", Direction::Egress, true),
        ("silent", "mute", Direction::Egress, false),
        ("deaf", "closed", Direction::Ingress, false),
        ("listens", "open", Direction::Ingress, true),
    ] {
        start.apply(Change::Policy(policy(name, label, direction, open)));
    }
    start.apply(pod("one", 2, "talker"));
    start.apply(pod("other", 3, "closed"));
    let changes = vec![pod("one", 2, "mute"), pod("other", 3, "open")];
    let packets = prop::collection::vec(any::<(Pick, Pick, Pick)>(), 200);
    let packets = packets.new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let course = Course { history: History { start, changes }, node: 1, knows_ranges: false, together: 2, packets };
    assert!(follow(&course).unwrap() > 1000);
}

fn follow(course: &Course) -> Result<usize, TestCaseError> {
    let mut state = course.history.start.clone();
    let mut index = Index::build(format!("node-{}", course.node), &state);
    index.take_dirty();
    let pod_ranges = if course.knows_ranges { pod_ranges(course.node) } else { BTreeSet::new() };
    let options = Options { pod_ranges, ..options() };
    let mut renderer = Renderer::new(options.clone());
    renderer.update(index.compiled(), &index.compiled().everything());
    let mut walked = 0;
    for changes in commits(&course.history.changes, course.together) {
        let (mut before, known) = (renderer.ruleset().clone(), addresses(&state));
        for change in changes {
            state.apply(change.clone());
            index.apply(change.clone());
        }
        let due = index.due();
        index.forgotten(&due);
        let dirty = index.take_dirty();
        let packets = packets(course, &state, known, &dirty);
        for patch in renderer.update(index.compiled(), &dirty) {
            let mut after = before.clone();
            patch.apply(&mut after);
            let plans: Vec<_> = patch.around(&gates(&options)).iter().map(|part| part.plan(&after)).collect();
            let transition = Transition { before: &before, after: &after };
            walked += transition.walk_through(&plans, &packets).map_err(|why| {
                let changes: Vec<_> = changes.iter().map(palisade_testkit::generate::change_text).collect();
                TestCaseError::fail(format!("{why}\nduring\n{}", changes.join("\n")))
            })?;
            before = after;
        }
    }
    Ok(walked)
}

/// Pods that change together may change their IPs one after the other: no packet meets a state that the cluster never
/// had.
#[test]
fn addresses_that_change_in_turn_pass_through_states_of_the_cluster() {
    Trials::of("changes in turn", "PALISADE_VERDICTS", WALKS / WALKS_PER_VERDICT)
        .divided(VERDICTS_PER_TURN)
        .run(arb_course, follow_in_turn);
}

/// Returns the number of in-turn changes.
fn follow_in_turn(course: &Course) -> Result<usize, TestCaseError> {
    let mut state = course.history.start.clone();
    let mut index = Index::build(format!("node-{}", course.node), &state);
    index.take_dirty();
    let mut renderer = Renderer::new(options());
    renderer.update(index.compiled(), &index.compiled().everything());
    let mut in_turn = 0;
    let is_pod = |change: &Change| matches!(change, Change::Pod(_) | Change::PodGone(_));
    let alike = course.history.changes.chunk_by(|one, next| is_pod(one) && is_pod(next));
    for changes in alike.flat_map(|changes| changes.chunks(course.together + 1)) {
        let (before, known) = (renderer.ruleset().clone(), addresses(&state));
        let mut states = vec![before.clone()];
        let mut single = index.clone();
        for change in changes {
            state.apply(change.clone());
            single.apply(change.clone());
            states.push(render(single.compiled(), &options()));
        }
        index.apply_all(changes.iter().cloned());
        let dirty = index.take_dirty();
        let packets = packets(course, &state, known, &dirty);
        // Without pod ranges nothing is blocked for starting pods, so there is at most one patch.
        let patch = renderer.update(index.compiled(), &dirty).pop().unwrap_or_default();
        let split = |part: &Patch| part.split(dirty.order.events()?, renderer.ruleset());
        let parts = patch.around(&gates(&options()));
        let parts: Vec<_> = parts.iter().flat_map(|part| split(part).unwrap_or_else(|| vec![part.clone()])).collect();
        if dirty.order.events().is_some() && parts.len() > 1 {
            in_turn += 1;
            walk_in_turn(&before, renderer.ruleset(), &parts, &states, &packets).map_err(|why| {
                let changes: Vec<_> = changes.iter().map(palisade_testkit::generate::change_text).collect();
                TestCaseError::fail(format!("{why}\nduring\n{}", changes.join("\n")))
            })?;
        }
        let due = index.due();
        index.forgotten(&due);
        let dirty = index.take_dirty();
        renderer.update(index.compiled(), &dirty);
    }
    Ok(in_turn)
}

/// Walks through the parts of a change; each part's table judges as one of the states did.
fn walk_in_turn(
    before: &Ruleset,
    after: &Ruleset,
    parts: &[Patch],
    states: &[Ruleset],
    packets: &[Packet],
) -> Result<(), String> {
    let mut table = before.clone();
    for part in parts {
        let mut next = table.clone();
        part.apply(&mut next);
        Transition { before: &table, after: &next }.walk_through(&[part.plan(&next)], packets)?;
        for packet in packets {
            let end = |ruleset| walk(ruleset, packet).unwrap().end;
            if states.iter().all(|state| end(state) != end(&next)) {
                return Err(format!(
                    "packet from {} to {} meets a state that never existed",
                    packet.source, packet.destination
                ));
            }
        }
        table = next;
    }
    assert_eq!(table, *after);
    Ok(())
}

fn options() -> Options {
    Options { established: Established::Remember, ..Options::default() }
}

/// The ranges of the pods' IPs on a node, in generated clusters.
fn pod_ranges(node: u8) -> BTreeSet<IpNet> {
    [format!("10.42.{node}.0/24"), format!("fd42:{node}::/64")].map(|range| range.parse().unwrap()).into()
}

/// The changes as they are committed, some at once.
fn commits(changes: &[Change], together: usize) -> Vec<&[Change]> {
    changes.chunks(together).collect()
}

fn addresses(state: &State) -> BTreeSet<IpAddr> {
    state.every_pod().flat_map(|pod| pod.addresses.iter()).collect()
}

/// The in-flight packets: every other end is an IP affected by the change.
fn packets(course: &Course, state: &State, known: BTreeSet<IpAddr>, dirty: &Dirty) -> Vec<Packet> {
    let touched: BTreeSet<_> = dirty.subjects.iter().chain(dirty.peers.values().flatten()).copied().collect();
    let mut all = known;
    all.extend(addresses(state));
    all.extend([IpAddr::from([9, 9, 9, 9]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])]);
    // An unknown IP from this node's pod range.
    all.extend([IpAddr::from([10, 42, course.node, 9]), IpAddr::from([0xfd42, course.node.into(), 0, 0, 0, 0, 0, 9])]);
    let (touched, all): (Vec<_>, Vec<_>) = (touched.into_iter().collect(), all.into_iter().collect());
    let mut transports: Vec<_> =
        ports_in_use(state).into_iter().map(|(protocol, port)| Transport::Port(protocol, port)).collect();
    transports.extend([Transport::Portless, Transport::Port(Protocol::Tcp, 7)]);
    let mut packets = Vec::new();
    for (number, (from, to, transport)) in course.packets.iter().enumerate() {
        let (one, other) = if touched.is_empty() { (&all, &all) } else { (&touched, &all) };
        let other = if number % 3 == 0 { one } else { other };
        let one = *from.get(one);
        let others: Vec<_> = other.iter().filter(|address| Family::of(**address) == Family::of(one)).collect();
        if others.is_empty() {
            continue;
        }
        let other = **to.get(&others);
        let (from, to) = if number % 2 == 0 { (one, other) } else { (other, one) };
        let request = Packet::request(Hook::Forward, from, to, *transport.get(&transports));
        packets.push(if number % 4 == 3 { request.reply(Hook::Forward) } else { request });
    }
    packets
}

struct Transition<'a> {
    before: &'a Ruleset,
    after: &'a Ruleset,
}

impl Transition<'_> {
    /// Walks all packets through all batches of the transaction; returns the number of walks.
    fn walk_through(&self, plans: &[Transaction], packets: &[Packet]) -> Result<usize, String> {
        let stamp = Slice::default().first().next();
        let restricts = plans.iter().any(Transaction::restricts);
        let (mut walked, mut table) = (0, with_stamp(self.before.clone(), stamp));
        let last = with_stamp(self.after.clone(), if restricts { stamp.next() } else { stamp });
        let packets: Vec<_> = packets.iter().flat_map(|packet| marked(packet, &table)).collect();
        // The tables that in-flight packets may have met so far.
        let mut met = vec![table.clone()];
        for batch in Self::batches(plans, stamp) {
            batch.operations.iter().for_each(|operation| perform(&mut table, operation));
            if batch.waits {
                met.drain(..met.len() - 1);
            }
            met.push(table.clone());
            for packet in &packets {
                walked += self.check(batch.name, &met, &last, packet)?;
            }
        }
        assert_eq!(table, last);
        Ok(walked)
    }

    /// The batches as the engine commits them: it waits before the first one of each transaction, suspends the verdict
    /// cache with the first one that may deny something, and resumes it at the end.
    fn batches(plans: &[Transaction], stamp: Stamp) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut is_active = true;
        for plan in plans {
            for (number, batch) in plan.batches().enumerate() {
                let mut batch = Batch { waits: batch.waits || number == 0, ..batch.clone() };
                if plan.restricts() && is_active {
                    batch.operations.splice(0..0, cache::suspend());
                    is_active = false;
                }
                batches.push(batch);
            }
        }
        batches.extend((!is_active).then(|| cache::resume(stamp.next())));
        batches
    }

    /// Walks a packet that began with any of these tables, when a batch has just made the last; returns the number of
    /// walks. `last` is the table at the end.
    fn check(&self, batch: &str, tables: &[Ruleset], last: &Ruleset, packet: &Packet) -> Result<usize, String> {
        let ends = [self.before, self.after].map(|ruleset| walk(ruleset, packet).unwrap());
        let mut walked = 0;
        for (began, table) in tables.iter().enumerate().take(tables.len() - 1) {
            // Two batches later, chains have the rules of the second; after the third, still.
            let passed = tables.len() - 1 - began;
            let (rules, elements) = (&tables[began + passed / 2 * 2], &tables[tables.len() - 1]);
            for lookups in 0.. {
                let during = walk_across(table, Later { lookups, rules, elements }, packet).unwrap();
                walked += 1;
                // A flow to a named port may lose packets for a moment while its pod is added or removed.
                let is_moment = during.end == End::Drop && self.changes_named_port(packet);
                if ends.iter().all(|end| end.end != during.end) && !is_moment {
                    return Err(explain(batch, passed, lookups, packet, &during, &ends));
                }
                // The flow's next packet, after the transaction: no stamp may outlive the verdict.
                let next = walk(last, &packet.after(&during)).unwrap();
                if next.end != ends[1].end {
                    return Err(explain(
                        "all is done, with the stamp that it got",
                        passed,
                        lookups,
                        packet,
                        &next,
                        &ends,
                    ));
                }
                if lookups > during.lookups {
                    break;
                }
            }
        }
        Ok(walked)
    }
}

/// A packet without a stamp, with an old one, and with the one that the table gives its flow.
fn marked(packet: &Packet, table: &Ruleset) -> Vec<Packet> {
    let with = |mark| Packet { flow: packet.flow.map(|flow| Flow { mark, ..flow }), ..packet.clone() };
    let given = walk(table, packet).unwrap().mark;
    let old = Slice::default().first().bits().value;
    [0, old | 0x42, given].into_iter().collect::<BTreeSet<_>>().into_iter().map(with).collect()
}

impl Transition<'_> {
    /// Whether the packet's flow is to a port that gains or loses a name.
    fn changes_named_port(&self, packet: &Packet) -> bool {
        let Some(flow) = &packet.flow else { return false };
        let Some(port) = flow.server_port else { return false };
        let key = Key::AddressPort(flow.server, port);
        let names = |ruleset: &Ruleset| {
            let named = ruleset.sets.iter().filter(|(_, set)| set.elements.contains_key(&key));
            named.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        };
        names(self.before) != names(self.after)
    }
}

fn explain(batch: &str, passed: usize, lookups: usize, packet: &Packet, during: &Walk, ends: &[Walk; 2]) -> String {
    let way = |walk: &Walk| walk.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
    let what = if during.end == End::Accept { "passes" } else { "is lost" };
    format!(
        "{:?} packet from {} to {} ({:?}) {what} when {batch}, the last of {passed} batches, comes after {lookups} lookups:\n  \
         {}\nbefore:\n  {}\nafter:\n  {}",
        packet.states,
        packet.source,
        packet.destination,
        packet.flow,
        way(during),
        way(&ends[0]),
        way(&ends[1])
    )
}
