//! An agent for any length of time, on a node where pods, policies, namespaces and IPs come and go. `hack/soak` runs
//! it.
//!
//! During all changes a stream runs that every state allows, and one that no state allows. After each change, packets
//! among the current pods are sent until all of them get the verdict of the reference evaluator; until then those whose
//! verdict the change does not touch must have it already. Once a minute the table is compared with one built from
//! scratch, and the agent's memory and descriptors with those at the start. The first fault ends the run and prints the
//! last changes.
//!
//! Seen to fail when the agent ignores every hundredth event.

mod held;
mod table;
mod traffic;
mod world;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::running::Agent;
use held::Held;
use palisade_lab::{Lab, Layout};
use traffic::{Fault, Streams};
use world::World;

/// How long a change may take until every packet gets its verdict.
const LIMIT: Duration = Duration::from_secs(30);

/// The number of last changes printed with a fault.
const LAST: usize = 12;

const MINUTE: Duration = Duration::from_secs(60);

/// The run so far.
#[derive(Default)]
struct Totals {
    events: u64,
    probes: u64,
    leaked: u64,
    lost: u64,
    divergences: u64,
}

struct Soak {
    world: World,
    agent: Agent,
    streams: Streams,
    totals: Totals,
    held: Held,
    last: VecDeque<String>,
}

#[test]
#[ignore = "takes minutes; hack/soak runs it"]
fn a_node_stays_right_during_endless_changes() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().expect(name));
    let minutes = number("PALISADE_SOAK_MINUTES", 1);
    let seed = number("PALISADE_SOAK_SEED", u64::from(std::process::id()));
    println!("soak: seed {seed} (PALISADE_SOAK_SEED={seed} makes the same changes again)");
    let scratch = std::env::temp_dir().join(format!("palisade-soak-{}", std::process::id()));
    let mut soak = Soak::start(seed, &scratch);
    let started = Instant::now();
    let fault = soak.run(started, u32::try_from(minutes).unwrap());
    if let Err(fault) = &fault {
        soak.tell(fault, started.elapsed());
    }
    let Totals { events, probes, leaked, lost, divergences } = soak.totals;
    let elapsed = started.elapsed().as_secs() / MINUTE.as_secs();
    println!(
        "soak: {elapsed} minutes, {events} events, {probes} probes, {leaked} leaked, {lost} lost, {divergences} \
         divergences, {}",
        soak.held
    );
    assert!(fault.is_ok(), "see above; the log is {}", scratch.join("log").display());
    drop(soak);
    std::fs::remove_dir_all(&scratch).unwrap();
}

impl Soak {
    fn start(seed: u64, scratch: &Path) -> Self {
        // The second node has no agent: its kernel loads the table for comparison.
        let lab = Lab::builder().nodes(2, Layout::Bridge).build().unwrap();
        let world = World::new(lab, scratch.join("manifests"), seed);
        let manifests = world.manifests().to_str().unwrap().to_owned();
        let arguments = ["--manifests", &manifests];
        let agent = Agent::start(world.node(), "127.0.0.1:9440", &arguments, &scratch.join("log"));
        agent.wait_ready();
        let streams = Streams::start(&world);
        let held = Held::of(agent.id());
        Self { world, agent, streams, totals: Totals::default(), held, last: VecDeque::new() }
    }

    fn run(&mut self, started: Instant, minutes: u32) -> Result<(), Fault> {
        for minute in 1..=minutes {
            while started.elapsed() < MINUTE * minute {
                self.change()?;
            }
            self.look(minute)?;
        }
        Ok(())
    }

    /// One change, and packets until all get its verdict.
    fn change(&mut self) -> Result<(), Fault> {
        let before = self.world.state();
        let what = self.world.change();
        self.world.turn_marker();
        let after = self.world.state();
        self.totals.events += 2;
        self.last.push_back(what);
        if self.last.len() > LAST {
            self.last.pop_front();
        }
        let probes = self.world.probes(&before, &after);
        let start = Instant::now();
        loop {
            let arrived = self.world.shoot(&probes);
            self.totals.probes += u64::try_from(probes.len()).unwrap();
            let mut wrong = probes.iter().zip(&arrived).filter(|(probe, arrived)| probe.allowed != **arrived);
            if let Some((probe, _)) = wrong.clone().find(|(probe, _)| probe.is_unchanged) {
                return Err(probe.fault());
            }
            let Some((probe, _)) = wrong.next() else { break };
            if start.elapsed() > LIMIT {
                return Err(Fault::Divergence(format!("after {LIMIT:?} still: {}", probe.words())));
            }
        }
        self.totals.probes += self.streams.check(&self.world)?;
        // A reused IP may be closed until the flows of its former pod are deleted: from here on, packets that the next
        // change does not affect must pass.
        let agent = &self.agent;
        agent.wait("the end of blocking", || agent.is_at_rest());
        Ok(())
    }

    /// The checks once a minute.
    fn look(&mut self, minute: u32) -> Result<(), Fault> {
        table::compare(&self.world, LIMIT).map_err(Fault::Divergence)?;
        if let Some(missing) = self.agent.missing() {
            return Err(Fault::Divergence(format!("the agent is not ready: {missing}")));
        }
        self.held.measure().map_err(Fault::Held)?;
        let Totals { events, probes, .. } = self.totals;
        println!("soak: minute {minute}: {events} events, {probes} probes, {}", self.held);
        // Flows of shots would fill the conntrack table in the long run.
        self.world.forget_flows();
        Ok(())
    }

    fn tell(&mut self, fault: &Fault, after: Duration) {
        println!("soak: after {after:?}: {fault}");
        match fault {
            Fault::Leak(_) => self.totals.leaked += 1,
            Fault::Loss(_) => self.totals.lost += 1,
            Fault::Divergence(_) => self.totals.divergences += 1,
            Fault::Held(_) => {}
        }
        println!("soak: the last changes, the youngest at the end:");
        self.last.iter().for_each(|change| println!("  {change}"));
        println!("soak: {}", self.world.list());
        let log = self.agent.read_log();
        let lines: Vec<_> = log.lines().collect();
        println!("soak: the end of the log:");
        lines.iter().skip(lines.len().saturating_sub(20)).for_each(|line| println!("  {line}"));
    }
}
