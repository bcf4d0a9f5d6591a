//! One fault: injected, survived, lifted; and its row.

use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::{FakeApi, Resource, Verb};

use crate::faults::agent::within;
use crate::faults::scene::{Scene, Toll};

/// Whether the agent or its metrics report the fault.
type Noticed = fn(&Scene) -> bool;

/// A fault and the conditions that must hold during it and afterwards.
pub(crate) struct Case {
    /// Its description in the row.
    pub(crate) fault: &'static str,
    /// Adds objects to those of every scene.
    pub(crate) prepare: fn(&FakeApi),
    /// Injects it.
    pub(crate) inject: fn(&Scene),
    /// The minimum duration. Packets are counted over this time without other conditions.
    pub(crate) lasts: Duration,
    /// The report of the fault, and its deadline, counted from the start.
    pub(crate) noticed: Option<(Noticed, Duration)>,
    /// Ends it. The scene's late policy must be enforced afterwards.
    pub(crate) lift: fn(&Scene),
    /// The deadline for following changes again.
    pub(crate) in_step: Duration,
    /// The maximum number of lists of one kind meanwhile.
    pub(crate) lists: usize,
}

/// A fault of a few seconds that ends with a policy which the agent must enforce.
pub(crate) const BRIEF: Case = Case {
    fault: "",
    prepare: |_| {},
    inject: |_| {},
    lasts: Duration::from_secs(3),
    noticed: None,
    lift: Scene::put_late,
    in_step: Duration::from_secs(60),
    lists: 3,
};

/// The time over which packets are counted at the end: a list that is believed too late opens pods only then.
const AFTERMATH: Duration = Duration::from_secs(1);

/// The result of a fault.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) fault: &'a str,
    pub(crate) toll: Option<Toll>,
    pub(crate) noticed: Option<Duration>,
    pub(crate) in_step: Option<Duration>,
    pub(crate) note: String,
}

impl Row<'_> {
    /// Prints the row, for `hack/faults`.
    pub(crate) fn print(&self) {
        let count = |of: fn(&Toll) -> u64| self.toll.as_ref().map_or("-".to_owned(), |toll| of(toll).to_string());
        let seconds =
            |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
        println!(
            "row | {} | {} | {} | {} | {} | {} | {} | {}",
            self.name,
            self.fault,
            count(|toll| toll.sent),
            count(|toll| toll.leaked),
            count(|toll| toll.lost),
            seconds(self.noticed),
            seconds(self.in_step),
            self.note
        );
    }
}

impl Case {
    /// Runs the case.
    pub(crate) fn run(&self, name: &str) {
        let scene = Scene::with(name, self.prepare);
        let traffic = scene.traffic();
        let start = Instant::now();
        (self.inject)(&scene);
        let by = self.noticed.map_or(Duration::ZERO, |(_, by)| by);
        let is_noticed = || self.noticed.is_some_and(|(noticed, _)| noticed(&scene));
        let mut noticed = within(self.lasts.min(by), is_noticed).map(|_| start.elapsed());
        observe(start + self.lasts);
        if noticed.is_none() {
            noticed = within(by.saturating_sub(start.elapsed()), is_noticed).map(|_| start.elapsed());
        }
        let lists = Resource::WATCHED.map(|resource| scene.api.count_since(start, Verb::List, resource));
        (self.lift)(&scene);
        let in_step = scene.time_to_step(self.in_step);
        observe(Instant::now() + AFTERMATH);
        let toll = traffic.stop(&scene);
        let most = lists.into_iter().max().unwrap_or(0);
        Row { name, fault: self.fault, toll: Some(toll), noticed, in_step, note: format!("{most} lists of a kind") }
            .print();
        let words = || scene.agent.words();
        assert_eq!(scene.agent.ended(), None, "the agent has ended: {}", words());
        assert_eq!((toll.leaked, toll.lost), (0, 0), "leaked and lost of {} packets; {}", toll.sent, words());
        assert!(self.noticed.is_none() || noticed.is_some(), "no report of it within {by:?}; {}", words());
        assert!(in_step.is_some(), "changes are not followed within {:?}; {}", self.in_step, words());
        assert!(most <= self.lists, "{lists:?} lists were requested, the limit is {} of a kind", self.lists);
    }
}

/// Waits while packets are counted.
pub(crate) fn observe(until: Instant) {
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Whether a kind's lists were doubted.
pub(crate) fn doubted(scene: &Scene, resource: Resource) -> bool {
    let labels = format!("resource=\"{}\"", resource.name());
    scene.agent.metric("palisade_lists_doubted_total", &labels).is_some_and(|count| count > 0.0)
}

/// Whether a kind's lists were doubted because single objects exist that they lack, and readiness reports it.
pub(crate) fn contradicted(scene: &Scene, resource: Resource) -> bool {
    let labels = format!("resource=\"{}\",reason=\"object\"", resource.name());
    let counted = scene.agent.metric("palisade_lists_doubted_total", &labels).is_some_and(|count| count > 0.0);
    let unready = scene.agent.get("/readyz").filter(|(status, _)| *status == 503);
    counted && unready.is_some_and(|(_, why)| why.contains("lists: ") && why.contains(resource.name()))
}

/// Whether errors with a kind were counted, or readiness reports the kind as silent.
pub(crate) fn failing(scene: &Scene, resource: Resource) -> bool {
    let labels = format!("resource=\"{}\"", resource.name());
    let errors = scene.agent.metric("palisade_watch_errors_total", &labels);
    errors.is_some_and(|count| count > 0.0) || unheard(scene, resource)
}

/// Whether readiness or the metric's age reports that a kind has been silent for long.
pub(crate) fn unheard(scene: &Scene, resource: Resource) -> bool {
    let labels = format!("resource=\"{}\"", resource.name());
    let age = scene.agent.metric("palisade_watch_last_contact_seconds", &labels);
    let unready = scene.agent.get("/readyz").filter(|(status, _)| *status == 503);
    age.is_some_and(|age| age > 40.0) || unready.is_some_and(|(_, why)| why.contains(resource.name()))
}

/// Makes one test of each row of a table.
macro_rules! cases {
    ($($(#[$attribute:meta])* $name:ident: $case:expr;)*) => {
        $(
            $(#[$attribute])*
            #[test]
            fn $name() {
                let case: $crate::faults::case::Case = $case;
                case.run(stringify!($name));
            }
        )*
    };
}
pub(crate) use cases;
