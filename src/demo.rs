//! `palisade demo`: enforcement on real packets, in a lab of network namespaces, without a cluster.
//!
//! The agents are this same binary. Every step changes the manifests that they watch, waits until they have committed,
//! and then tries every connection. It prints the verdict of the reference evaluator next to what the packets did.

mod agent;
mod leftovers;
mod manifests;
mod matrix;
mod revocation;
mod screen;
mod stage;

use std::time::Instant;

use crate::cli::DemoArgs;
use crate::output::{self, Failure};
use leftovers::Leftovers;
use manifests::Manifest;
use matrix::Matrix;
use screen::{Screen, ms};
use stage::Stage;

impl From<palisade_lab::Error> for Failure {
    fn from(error: palisade_lab::Error) -> Self {
        Self::new(output::chain(&error))
    }
}

/// Runs the demo. Removes everything that it creates, also if it is interrupted.
pub(crate) fn run(arguments: &DemoArgs) -> Result<(), Failure> {
    palisade_lab::check_requirements().map_err(|error| requirement(&error))?;
    let leftovers = Leftovers::new()?;
    let outcome =
        leftovers.clear_on_interrupt().and_then(|()| Demo::new(arguments.step, leftovers.clone())).and_then(Demo::play);
    leftovers.clear();
    outcome
}

fn requirement(error: &palisade_lab::Error) -> Failure {
    let failure = Failure::new(output::chain(error));
    match error {
        palisade_lab::Error::Privilege { .. } => failure.hint("sudo palisade demo"),
        _ => failure,
    }
}

/// The stage, and the results so far.
struct Demo {
    stage: Stage,
    screen: Screen,
    started: Instant,
    flows: usize,
    wrong: usize,
}

impl Demo {
    fn new(step: bool, leftovers: Leftovers) -> Result<Self, Failure> {
        let started = Instant::now();
        let screen = Screen::new(step);
        screen.title("Palisade: NetworkPolicy on real packets, without a cluster")?;
        let (mut stage, took) = Stage::set(leftovers)?;
        screen.stage(&stage, took)?;
        let took = ms(stage.start_agents()?);
        screen::paragraph(&format!(
            "On each node runs `palisade agent`, here with a directory of manifests instead of an API server.\n\
             Both were ready after {took}."
        ))?;
        Ok(Self { stage, screen, started, flows: 0, wrong: 0 })
    }

    fn play(mut self) -> Result<(), Failure> {
        self.screen.step("1  No policy: everything connects")?;
        self.try_everything()?;

        self.screen.step("2  A default-deny lands in both namespaces: only a pod's own node gets through")?;
        self.apply(&manifests::DEFAULT_DENY)?;
        self.try_everything()?;

        self.screen.step("3  The frontend may reach the backend, directly and through its Service")?;
        self.apply(&manifests::FRONTEND)?;
        self.try_everything()?;

        self.screen.step("4  A port, another namespace, and an egress policy: both ends must allow")?;
        self.apply(&manifests::MORE)?;
        self.try_everything()?;

        self.screen.step("5  Running connections are cut when their policy goes, and live again when it returns")?;
        self.wrong += revocation::show(&mut self.stage, &self.screen)?;
        self.try_everything()?;

        self.screen.step("6  The ruleset of node-1")?;
        self.list()?;
        self.conclude()
    }

    /// Writes a manifest, prints it, and waits until every agent has committed it.
    fn apply(&mut self, manifest: &Manifest) -> Result<(), Failure> {
        self.screen.policies(manifest)?;
        let changed = self.stage.write(manifest)?;
        let commits = self.stage.await_commits(changed)?;
        self.screen.commits(&commits)
    }

    /// Tries every connection and prints the result.
    fn try_everything(&mut self) -> Result<(), Failure> {
        let matrix = Matrix::measure(&self.stage)?;
        self.flows += matrix.flows();
        self.wrong += matrix.mismatches().len();
        self.screen.matrix(&matrix)
    }

    fn list(&self) -> Result<(), Failure> {
        screen::paragraph(
            "`ct original saddr` is the client of a flow, `ct reply saddr` its server, after Service DNAT. So\n\
             requests and replies meet the same rule, and no \"accept established\" outlives a policy.\n\
             In `forward`, the maps send an isolated pod's IP to the chain named after its policies.\n\
             Each rule there names its policy; packets that no rule allows are counted and dropped.",
        )?;
        let listing = self.stage.node(1).namespace().output("nft", &["list", "table", "inet", "palisade"], "")?;
        self.screen.listing(&listing)
    }

    fn conclude(self) -> Result<(), Failure> {
        let Self { stage, screen, started, flows, wrong } = self;
        stage.strike();
        let seconds = started.elapsed().as_secs_f64();
        if wrong > 0 {
            return Err(Failure::new(format!("{wrong} of the measured results contradict the policies")));
        }
        screen.end(&format!(
            "{flows} connections tried, every one as the policies say; {seconds:.1} s; nothing is left behind"
        ))
    }
}
