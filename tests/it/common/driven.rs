//! A node of the lab with the agent's engine, without the rest of the agent.

use palisade_dataplane::perform::{BridgeNetfilter, Kernel};
use palisade_dataplane::table::{Ownership, Table};
use palisade_engine::{Done, Engine, Forgotten, Input, ListPart, Report, Step};
use palisade_lab::Node;
use palisade_policy::input::{Change, Kind, Object, State};
use palisade_ruleset::cache::Slice;
use palisade_ruleset::change::Batch;
use palisade_ruleset::render::Options;

/// A node that enforces.
pub(crate) struct Driven {
    /// The node.
    pub(crate) node: Node,
    /// The engine.
    pub(crate) engine: Engine,
    /// The kernel's table. Its socket was opened in the node's namespace and stays there.
    kernel: Kernel,
    cache: Option<Slice>,
    /// Commit several batches as one: a fault, to make tests fail.
    pub(crate) one_batch: bool,
    /// Delete the flows of IPs that leave their pods; `false` is a fault, too.
    pub(crate) forgets: bool,
}

impl Driven {
    /// Enforces nothing yet, but the table exists with its base chains.
    pub(crate) fn start(node: &Node) -> Self {
        Self::start_with(node, &State::default(), &Options::default())
    }

    /// Enforces this state.
    pub(crate) fn start_with(node: &Node, state: &State, options: &Options) -> Self {
        Self::start_stamped(node, state, options, verdict_cache())
    }

    /// The same with these bits for the verdict cache, whatever the environment says.
    pub(crate) fn start_stamped(node: &Node, state: &State, options: &Options, cache: Option<Slice>) -> Self {
        let kernel = Kernel::new(Ownership::Plain, BridgeNetfilter::Check);
        let engine = engine(node, options, cache);
        let mut driven = Self { node: node.clone(), engine, kernel, cache, one_batch: false, forgets: true };
        driven.list(state);
        driven
    }

    /// Changes to an unrelated state, as an agent does that adopts another's table.
    pub(crate) fn turn_to(&mut self, state: &State, options: &Options) {
        self.engine = engine(&self.node, options, self.cache);
        self.list(state);
    }

    /// Gets a change and is killed after this many steps; another engine adopts the kernel's state by then, with the
    /// current objects. Returns whether there were this many steps.
    pub(crate) fn killed_after(
        &mut self,
        steps: usize,
        changes: Vec<Change>,
        state: &State,
        options: &Options,
    ) -> bool {
        self.engine.take(Input::Changes(changes));
        let mut done = 0;
        while done < steps
            && let Some(step) = self.engine.next_step()
        {
            let outcome = self.perform(step);
            self.engine.done(outcome);
            done += 1;
        }
        // Its socket closes, like that of a process that ends.
        self.kernel = Kernel::new(Ownership::Plain, BridgeNetfilter::Check);
        self.turn_to(state, options);
        done == steps
    }

    /// The kernel's table.
    pub(crate) fn table(&mut self) -> &mut Table {
        self.kernel.table().unwrap()
    }

    /// Deletes the table.
    pub(crate) fn delete_table(&mut self) {
        self.kernel.close().unwrap().delete().unwrap();
    }

    fn list(&mut self, state: &State) {
        let namespaces = state.namespaces.values().cloned().map(Object::Namespace).collect();
        let pods = state.every_pod().cloned().map(Object::Pod).collect();
        let policies = state.policies.values().cloned().map(Object::Policy).collect();
        for (kind, objects) in [(Kind::Namespace, namespaces), (Kind::Pod, pods), (Kind::NetworkPolicy, policies)] {
            for part in [ListPart::Begin(kind), ListPart::Page(objects), ListPart::End(kind)] {
                self.engine.take(Input::List(part));
            }
        }
        self.run();
    }

    /// Applies events as one change and enforces it. Returns the number of batches.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> usize {
        self.engine.take(Input::Changes(changes.into_iter().collect()));
        self.run()
    }

    /// Performs steps until none are left. Returns the number of committed batches.
    fn run(&mut self) -> usize {
        let (mut batches, mut gathered) = (0, Vec::new());
        while let Some(step) = self.engine.next_step() {
            if let (true, Step::Commit(batch)) = (self.one_batch, &step) {
                gathered.extend(batch.operations.iter().cloned());
                self.engine.done(Done::Committed(Ok(())));
                continue;
            }
            if !matches!(step, Step::WaitForPackets) || gathered.is_empty() {
                batches += self.commit_at_once(&mut gathered);
            }
            batches += usize::from(matches!(step, Step::Commit(_)));
            let done = self.perform(step);
            self.engine.done(done);
        }
        batches += self.commit_at_once(&mut gathered);
        for report in self.engine.take_reports() {
            assert!(!matches!(report, Report::Failed { .. }), "{report:?}");
        }
        batches
    }

    fn commit_at_once(&mut self, gathered: &mut Vec<palisade_ruleset::change::Operation>) -> usize {
        if gathered.is_empty() {
            return 0;
        }
        let batch = Batch { name: "everything", waits: false, operations: std::mem::take(gathered) };
        assert_eq!(self.perform(Step::Commit(batch)), Done::Committed(Ok(())));
        1
    }

    fn perform(&mut self, step: Step) -> Done {
        match step {
            Step::Forget(addresses) if !self.forgets => {
                Done::Forgot(Forgotten { finished: addresses, ..Forgotten::default() })
            }
            step => {
                let (kernel, engine) = (&mut self.kernel, &self.engine);
                let done = self.node.run(|| kernel.perform(step, engine.ruleset())).unwrap();
                done.unwrap()
            }
        }
    }
}

fn engine(node: &Node, options: &Options, verdict_cache: Option<Slice>) -> Engine {
    let options =
        palisade_engine::Options { render: options.clone(), verdict_cache, ..palisade_engine::Options::default() };
    Engine::new(node.name(), options)
}

/// With the agent's default, or without a cache: `PALISADE_VERDICT_CACHE=off`.
fn verdict_cache() -> Option<Slice> {
    let is_off = std::env::var("PALISADE_VERDICT_CACHE").is_ok_and(|value| value == "off");
    (!is_off).then(Slice::default)
}
