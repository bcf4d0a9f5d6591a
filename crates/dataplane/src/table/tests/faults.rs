//! Whatever fails between us and the kernel, a table is only ever in its old state, in the wanted state, or as one of
//! the planned batches leaves it; an error says what is true; reading back and retrying gets to the wanted state.
//!
//! `PALISADE_FAULTS` sets the number of faults, `PALISADE_SEED` the first seed.
//!
//! Seen to fail when: a failure to read the answer to a batch was not [`Error::Unknown`]; a truncated message ended the
//! reading of its datagram.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::errno::Errno;
use palisade_policy::index::Index;
use palisade_policy::input::State;
use palisade_ruleset::change::{Operation, diff};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::render::{Options, render};
use palisade_testkit::generate::{History, arb_history};
use palisade_testkit::table::perform;
use palisade_testkit::trials::Trials;
use proptest::prelude::*;
use proptest::sample::Index as Pick;

use super::super::{Ownership, ReadBack, Table, batches_of, cleanup, read};
use super::wait_until_closed;
use crate::netlink::Socket;
use crate::netlink::faults::{Fault, arm, disarm, without};
use crate::space::isolated;
use palisade_engine::Class;

use crate::Error;

/// Injections in a test run: into many histories, and at the system calls of one.
const INJECTIONS: usize = 200;
/// Passes through one history, each with different faults.
const PASSES: usize = 12;
/// Concurrent passes.
const WORKERS: usize = 12;
/// Retries before giving up, for one fault or two.
const PATIENCE: usize = 8;

/// The kinds of faults; `place` is the message that is refused.
fn kinds(place: usize) -> Vec<Fault> {
    let fails = [Errno::ENOBUFS, Errno::EMSGSIZE, Errno::ENOMEM, Errno::EINTR, Errno::EAGAIN];
    let refused = [Errno::EBUSY, Errno::ENOENT, Errno::EEXIST, Errno::ENOMEM, Errno::EINTR, Errno::ERESTART];
    let fails = fails.into_iter().map(|errno| Fault::Fails(errno as i32));
    let refused = refused.into_iter().map(|errno| Fault::Refused(place, errno as i32));
    fails.chain(refused).chain([Fault::AnswerLost, Fault::Short]).collect()
}

/// The history of a table.
#[derive(Debug)]
struct Course {
    rulesets: Vec<Ruleset>,
}

impl Course {
    fn of(history: &History, together: usize) -> Self {
        let mut state = history.start.clone();
        let now = |state: &State| render(Index::build("node-1", state).compiled(), &Options::default());
        let mut rulesets = vec![now(&state)];
        for changes in history.changes.chunks(together) {
            changes.iter().cloned().for_each(|change| state.apply(change));
            rulesets.push(now(&state));
        }
        rulesets.dedup();
        rulesets.truncate(5);
        Self { rulesets }
    }

    /// An agent starts, follows the rulesets and ends; another adopts the table; finally the table is removed. Returns
    /// the numbers of system calls and of faults that happened.
    fn run(&self, faults: &[(u64, Fault)]) -> (u64, u64) {
        let mut agent = Agent { table: None, witness: witness() };
        arm(faults);
        for wanted in &self.rulesets {
            agent.reach(wanted);
        }
        agent.table = None;
        for wanted in [self.rulesets.last(), self.rulesets.first()].into_iter().flatten() {
            agent.reach(wanted);
        }
        agent.replace(self.rulesets.last().unwrap());
        agent.remove();
        disarm()
    }
}

/// A socket without faults.
fn witness() -> Socket {
    Socket::open(crate::netlink::NETFILTER).unwrap()
}

/// An agent, and another program that checks it.
struct Agent {
    table: Option<Table>,
    witness: Socket,
}

impl Agent {
    /// Retries until the table is as wanted.
    fn reach(&mut self, wanted: &Ruleset) {
        let mut errors = Vec::new();
        while errors.len() < PATIENCE {
            match self.attempt(wanted) {
                Ok(()) => {
                    assert!(!self.has_next(), "the second table is left");
                    assert_eq!(self.actual().ruleset, *wanted);
                    return;
                }
                Err(error) => errors.push(error),
            }
        }
        panic!("not there after {errors:#?}");
    }

    fn attempt(&mut self, wanted: &Ruleset) -> Result<(), Error> {
        let table = match &mut self.table {
            Some(table) => table,
            empty => empty.insert(Table::open(Ownership::Automatic).map_err(expected)?),
        };
        if table.read().map_err(expected)?.unowned {
            // A process that another test starts held the socket for a moment (see `ReadBack::unowned`).
            table.wake().map_err(expected)?;
        }
        let mut found = table.read().map_err(expected)?;
        let actual = self.actual();
        found.unowned = actual.unowned;
        assert_eq!(found, actual, "a read without an error is true");
        if found.matches(wanted) {
            return Ok(());
        }
        if found.ruleset == Ruleset::default() {
            return self.try_to_replace(wanted);
        }
        let Ok(patch) = diff(&found.ruleset, wanted) else { return self.try_to_replace(wanted) };
        for batch in patch.plan(wanted).batches() {
            self.commit(&batch.operations)?;
        }
        Ok(())
    }

    fn commit(&mut self, operations: &[Operation]) -> Result<(), Error> {
        let before = self.actual().ruleset;
        let mut after = before.clone();
        operations.iter().for_each(|operation| perform(&mut after, operation));
        let result = self.table.as_mut().unwrap().commit(operations).map_err(expected);
        let actual = self.actual();
        assert!(actual.exists && !actual.dormant);
        assert_known(&result.map(|_| ()), &actual.ruleset, &before, &[&after])
    }

    fn try_to_replace(&mut self, wanted: &Ruleset) -> Result<(), Error> {
        let before = self.actual().ruleset;
        let mut prepared = Ruleset::default();
        batches_of(wanted).first().into_iter().flatten().for_each(|operation| perform(&mut prepared, operation));
        let result = self.table.as_mut().unwrap().replace(wanted).map_err(expected);
        assert!(result.is_err() || !self.has_next(), "a replacement that succeeded leaves no second table");
        let actual = self.actual();
        assert!(actual.exists && !actual.dormant);
        match &result {
            // The first of two batches may have been applied.
            Err(error) if error.kind() != Class::Unknown && actual.ruleset == prepared => Err(result.unwrap_err()),
            _ => assert_known(&result.map(|_| ()), &actual.ruleset, &before, &[wanted, &prepared]),
        }
    }

    fn replace(&mut self, wanted: &Ruleset) {
        let mut tries = 0;
        while let Err(error) = self.try_to_replace(wanted) {
            tries += 1;
            assert!(tries < PATIENCE, "{error:?}");
        }
        assert_eq!(self.actual().ruleset, *wanted);
    }

    fn remove(&mut self) {
        self.table = None;
        let mut tries = 0;
        while self.actual().exists {
            if let Err(error) = cleanup() {
                expected(error);
            }
            tries += 1;
            assert!(tries < PATIENCE);
        }
    }

    /// Whether there is a second table.
    fn has_next(&mut self) -> bool {
        without(|| read::has_next(&mut self.witness)).unwrap()
    }

    /// The table as it is.
    fn actual(&mut self) -> ReadBack {
        let owned = self.table.as_ref().is_some_and(|table| table.owned);
        without(|| read::read(&mut self.witness, owned)).unwrap()
    }
}

/// A batch that succeeded is applied, one that failed is not, and one whose answer was lost may be either.
fn assert_known(
    result: &Result<(), Error>,
    actual: &Ruleset,
    before: &Ruleset,
    after: &[&Ruleset],
) -> Result<(), Error> {
    match result {
        Ok(()) => assert_eq!(actual, after[0]),
        Err(Error::Unknown) => assert!(actual == before || after.contains(&actual), "neither before nor after"),
        Err(error) => assert_eq!(actual, before, "{error:?}"),
    }
    match result {
        Ok(()) => Ok(()),
        Err(Error::Unknown) => Err(Error::Unknown),
        Err(_) => Err(Error::Stale),
    }
}

/// No fault that happens here is an object's fault or a missing right.
fn expected(error: Error) -> Error {
    let kind = error.kind();
    if kind == Class::Owned {
        wait_until_closed();
        return error;
    }
    assert!(matches!(kind, Class::Stale | Class::Resources | Class::Unknown), "{kind:?}: {error:?}");
    error
}

/// At which system call, which kind, at which message.
type Planned = (Pick, Pick, usize);

fn arb_course() -> impl Strategy<Value = (History, usize, Vec<Vec<Planned>>)> {
    let faults = prop::collection::vec(any::<(Pick, Pick)>(), 1..3);
    let faults = faults.prop_flat_map(|picks| {
        let places = prop::collection::vec(0_usize..40, picks.len());
        places.prop_map(move |places| picks.iter().zip(places).map(|((a, b), place)| (*a, *b, place)).collect())
    });
    (arb_history(), 1_usize..4, prop::collection::vec(faults, PASSES))
}

#[test]
fn a_table_reaches_the_wanted_state_despite_faults() {
    Trials::of("faults under the netlink socket", "PALISADE_FAULTS", INJECTIONS).run(
        arb_course,
        |(history, together, passes)| {
            let course = Course::of(history, *together);
            let (calls, _) = isolated(|| course.run(&[]));
            let plan = |(call, kind, place): &Planned| {
                let kinds = kinds(*place);
                (u64::try_from(call.index(usize::try_from(calls).unwrap())).unwrap(), *kind.get(&kinds))
            };
            let passes: Vec<Vec<_>> = passes.iter().map(|faults| faults.iter().map(plan).collect()).collect();
            Ok(run_all(&course, &passes))
        },
    );
}

/// Runs a course with each of these faults, many at a time, since they mostly wait for the kernel. Returns the number
/// of faults.
fn run_all(course: &Course, passes: &[Vec<(u64, Fault)>]) -> usize {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || {
            isolated(|| {
                let mut injected = 0;
                while let Some(faults) = passes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    injected += course.run(faults).1;
                }
                usize::try_from(injected).unwrap()
            })
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).sum()
    })
}

/// Every kind of fault at every system call of one history, up to the requested number.
#[test]
fn every_fault_at_every_system_call() {
    let course = Course { rulesets: super::small_steps() };
    let (calls, _) = isolated(|| course.run(&[]));
    assert!(calls > 80, "{calls}");
    let all: Vec<_> = (0..calls)
        .flat_map(|call| kinds(usize::try_from(call % 3).unwrap()).into_iter().map(move |fault| (call, fault)))
        .collect();
    let wanted = std::env::var("PALISADE_FAULTS").map_or(INJECTIONS, |text| text.parse().unwrap()).min(all.len());
    let passes: Vec<_> = (0..wanted).map(|pass| vec![all[pass * all.len() / wanted]]).collect();
    let injected = run_all(&course, &passes);
    // A course that had to wait for a socket to close can be shorter.
    assert!(injected * 10 >= wanted * 9, "{injected}");
    println!("total {injected} of {} faults at {calls} system calls", all.len());
}
