//! Shots: one crafted packet per flow, and receivers that record which of them arrive.
//!
//! How a verdict is known without waiting: the kernel handles packets that one CPU sends over veth devices in the order
//! of sending, on that CPU (`netif_rx` puts each packet at the end of the CPU's backlog). So the sending thread stays
//! on one CPU, and sends fences after the shots: datagrams over a loopback device, each of which passes the backlog
//! once. When a fence is back, every packet ahead of it has moved on by one device. After as many fences as the longest
//! path has devices (address resolution included), every shot is either delivered or dropped.

mod craft;
mod fence;
mod opened;
mod receive;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::panic;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::traffic::flow::Flow;
use crate::traffic::probe::token;
use crate::traffic::raw::Launchers;
use crate::traffic::signal::{ready, wait_for};
use craft::{Shot, craft};
use fence::Fence;
use opened::Opened;
use receive::Receivers;

/// Shots between two rounds of fences: below the kernel's default backlog of 1,000 packets.
const CHUNK: usize = 256;
/// Flows in one batch: ids of a batch must be far from those of the next.
const BATCH_LIMIT: usize = 1 << 24;

/// The sender of shots of a lab. One batch at a time.
#[derive(Debug)]
pub(crate) struct Shooter {
    fence: Fence,
    /// Id of the next shot.
    next: u32,
    /// The sockets that record arriving shots, and those that send them.
    receivers: Opened<Receivers>,
    launchers: Opened<Launchers>,
}

impl Shooter {
    pub(crate) fn new(fabric: &Namespace) -> Result<Self> {
        let next = u32::try_from(token() >> 32).unwrap_or(0);
        let (receivers, launchers) = (Opened::new(Receivers::open), Opened::new(Launchers::open));
        Ok(Self { fence: Fence::open(fabric)?, next, receivers, launchers })
    }

    /// Sends one packet per flow and returns the name of the namespace each was delivered in.
    pub(crate) fn shoot(&mut self, flows: &[Flow], targets: &[Namespace]) -> Result<Vec<Option<String>>> {
        if flows.len() > BATCH_LIMIT {
            return Err(Error::TooManyFlows { count: flows.len(), limit: BATCH_LIMIT });
        }
        let count = u32::try_from(flows.len()).unwrap_or(u32::MAX);
        let first = self.next;
        self.next = first.wrapping_add(count);
        let in_use: BTreeSet<u64> =
            targets.iter().chain(flows.iter().map(|flow| &flow.from)).map(Namespace::id).collect();
        self.receivers.close_all_but(&in_use);
        self.launchers.close_all_but(&in_use);
        let receivers = targets.iter().map(|target| self.receivers.of(target)).collect::<Result<Vec<_>>>()?;
        let shots = craft(flows, first, &mut self.launchers)?;
        let mut tally = Tally { first, places: vec![None; flows.len()], late: Vec::new() };
        let fence = &mut self.fence;
        let fired = thread::scope(|scope| {
            let shooter = thread::Builder::new()
                .name("lab-shooter".into())
                .spawn_scoped(scope, || fire(&shots, &receivers, fence, &mut tally))
                .map_err(|source| Error::Io { what: "start a thread", source })?;
            shooter.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
        });
        fired?;
        if let Some(&place) = tally.late.first() {
            let namespace = targets.get(place).map(|target| target.name().to_owned()).unwrap_or_default();
            return Err(Error::LateShots { count: tally.late.len(), namespace });
        }
        let name = |place: usize| targets.get(place).map(|target| target.name().to_owned());
        Ok(tally.places.into_iter().map(|place| place.and_then(name)).collect())
    }

    /// Waits until every packet in flight on any CPU has been delivered or dropped.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let failed = |errno: nix::Error| Error::Io { what: "choose a CPU", source: errno.into() };
        let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(failed)?;
        for cpu in (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)) {
            let fence = &mut self.fence;
            thread::scope(|scope| {
                let flusher = scope.spawn(move || {
                    pin(cpu).map_err(failed)?;
                    fence.pass()
                });
                flusher.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
            })?;
        }
        Ok(())
    }
}

/// The results of a batch so far.
#[derive(Debug)]
struct Tally {
    first: u32,
    /// For each flow, the position of the namespace that received it.
    places: Vec<Option<usize>>,
    /// Where ids of earlier batches arrived.
    late: Vec<usize>,
}

impl Tally {
    fn note(&mut self, id: u32, place: usize) {
        let position = usize::try_from(id.wrapping_sub(self.first)).ok();
        match position.and_then(|position| self.places.get_mut(position)) {
            Some(slot) => *slot = Some(place),
            None => self.late.push(place),
        }
    }
}

/// Keeps the calling thread on one CPU.
fn pin(cpu: usize) -> nix::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &only)
}

/// Sends the shots from one CPU and collects what arrives.
fn fire(shots: &[Option<Shot>], receivers: &[Arc<Receivers>], fence: &mut Fence, tally: &mut Tally) -> Result<()> {
    sched_getcpu().and_then(pin).map_err(|errno| Error::Io { what: "stay on one CPU", source: errno.into() })?;
    for chunk in shots.chunks(CHUNK) {
        for shot in chunk.iter().flatten() {
            // Refused by the sender's own kernel (no route, an egress rule): not delivered.
            shot.from.send(&shot.packet).ok();
        }
        fence.pass()?;
        collect(receivers, tally)?;
    }
    Ok(())
}

/// Records every shot in a receiver's queue.
fn collect(receivers: &[Arc<Receivers>], tally: &mut Tally) -> Result<()> {
    let sockets: Vec<_> = receivers
        .iter()
        .enumerate()
        .flat_map(|(place, of)| of.sockets.iter().map(move |socket| (place, socket)))
        .collect();
    let mut polled: Vec<_> =
        sockets.iter().map(|(_, receiver)| PollFd::new(receiver.as_fd(), PollFlags::POLLIN)).collect();
    wait_for(&mut polled, Some(Duration::ZERO)).map_err(|source| Error::Io { what: "wait for shots", source })?;
    for (place, receiver) in ready(&polled).filter_map(|position| sockets.get(position)) {
        receiver.drain(|id| tally.note(id, *place));
    }
    Ok(())
}
