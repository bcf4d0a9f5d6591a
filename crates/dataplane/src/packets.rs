//! Waiting until packets in flight have left our chains.
//!
//! The hooks of our chains run in softirq or with softirqs disabled, and so does everything that receives a packet. A
//! CPU that does this runs nothing else until it is done, unless the kernel is PREEMPT_RT. So a thread that has run on
//! every CPU knows that each has finished the packet that it was handling. That takes some 0.1 ms, while an RCU grace
//! period takes about 10.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Duration;

use rustix::system::uname;
use rustix::thread::{CpuSet, MembarrierCommand, membarrier, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// A packet is in flight in our chains for microseconds, or for as long as the hypervisor stops its CPU.
const LONG: Duration = Duration::from_millis(50);

/// With more CPUs, visiting each takes longer than a grace period.
const MOST_CPUS: usize = 64;

/// The online CPUs, as `0-3,8` (Linux, `Documentation/ABI/testing/sysfs-devices-system-cpu`).
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// More bytes than a list of so few CPUs has.
const LIST: usize = 1024;

/// The packets in flight.
#[derive(Debug)]
pub(crate) struct Packets {
    /// The list of CPUs, to be read again for each wait: CPUs come and go. None if it cannot be opened.
    online: Option<File>,
    /// The kernel preempts softirqs.
    preempts: bool,
}

impl Packets {
    pub(crate) fn new() -> Self {
        let preempts = uname().version().to_string_lossy().contains("PREEMPT_RT");
        Self { online: File::open(ONLINE).ok(), preempts }
    }

    /// Returns when every packet that was in the kernel's hooks at the call has left them.
    pub(crate) fn leave(&self) {
        match self.visit_cpus() {
            Ok(()) => return,
            Err(error) => tracing::trace!(%error, "cannot run on every CPU; waiting for a grace period instead"),
        }
        wait_for_grace_period();
    }

    /// Runs on every CPU for a moment.
    ///
    /// # Errors
    /// A CPU cannot be visited, or visits would prove nothing. The thread may then run on the same CPUs as before.
    fn visit_cpus(&self) -> io::Result<()> {
        if self.preempts {
            return Err(refused("softirqs can be preempted on PREEMPT_RT"));
        }
        let online = self.online()?;
        if online.len() > MOST_CPUS {
            return Err(refused("there are too many CPUs"));
        }
        let allowed = sched_getaffinity(None)?;
        if !online.iter().all(|cpu| allowed.is_set(*cpu)) {
            return Err(refused("the process may not use all CPUs"));
        }
        let visited = online.into_iter().try_for_each(visit);
        sched_setaffinity(None, &allowed)?;
        visited
    }

    /// The numbers of the online CPUs.
    fn online(&self) -> io::Result<Vec<usize>> {
        let unreadable = || refused("the list of CPUs is unreadable");
        let mut list = [0; LIST];
        let length = self.online.as_ref().ok_or_else(unreadable)?.read_at(&mut list, 0)?;
        // A list that fills the buffer may be longer.
        let list = list.get(..length).filter(|list| list.len() < LIST).ok_or_else(unreadable)?;
        std::str::from_utf8(list).ok().and_then(cpus).ok_or_else(unreadable)
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why.to_owned())
}

/// Returns while running on this CPU.
pub(crate) fn visit(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)?;
    if sched_getcpu() == cpu { Ok(()) } else { Err(io::Error::other("the thread was not moved")) }
}

/// The numbers in a list of ranges.
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CpuSet::MAX_CPU {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Hooks run in an RCU read-side section (`nf_hook`), and `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period if
/// there is more than one CPU (Linux 4.3, `kernel/sched/membarrier.c`). On a single CPU no packet is in flight while
/// this runs.
fn wait_for_grace_period() {
    if let Err(error) = membarrier(MembarrierCommand::Global) {
        // Kernels with nohz_full CPUs reject it.
        tracing::debug!(%error, "no membarrier; waiting {LONG:?} instead");
        thread::sleep(LONG);
    }
}

#[cfg(test)]
pub(crate) mod slow;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::slow::{Slow, send_slowly};
    use super::*;
    use crate::space::isolated;

    /// Calls `wait` while a packet is in a hook, and returns whether it had arrived afterwards. None if the machine was
    /// too busy for a result.
    fn arrives_by(wait: fn(), slow: &Slow) -> Option<bool> {
        let Slow { receiver, time, .. } = slow;
        let to = receiver.local_addr().unwrap();
        thread::scope(|scope| {
            visit(1).unwrap();
            let (begins, has_begun) = channel();
            let sender = scope.spawn(move || send_slowly(to, &begins));
            has_begun.recv().unwrap();
            thread::sleep(*time / 4);
            let started = Instant::now();
            wait();
            let arrived = receiver.recv(&mut [0; 8]).is_ok();
            let (began, ended) = sender.join().unwrap();
            if !arrived {
                receiver.recv(&mut [0; 8]).unwrap();
            }
            (began + *time / 8 < started && started < ended).then_some(arrived)
        })
    }

    #[test]
    fn a_packet_that_was_in_a_hook_has_left_it() {
        isolated(|| {
            let slow = Slow::new();
            for (name, wait) in [
                ("nothing", (|| {}) as fn()),
                ("visits", || Packets::new().leave()),
                ("grace period", wait_for_grace_period),
            ] {
                let tries = (0..400).filter_map(|_| arrives_by(wait, &slow)).take(10);
                let tries: Vec<_> = tries.collect();
                assert_eq!(tries.len(), 10, "the machine is too busy");
                // Without a wait, packets are still in flight.
                assert!(
                    if name == "nothing" { tries.contains(&false) } else { !tries.contains(&false) },
                    "{name}: {tries:?}"
                );
            }
        });
    }

    #[test]
    fn visiting_every_cpu_is_quicker_than_a_grace_period() {
        let median = |wait: fn()| {
            let mut times: Vec<_> = (0..51)
                .map(|_| {
                    let started = Instant::now();
                    wait();
                    started.elapsed()
                })
                .collect();
            times.sort();
            times[25]
        };
        let allowed = sched_getaffinity(None).unwrap();
        let (visits, grace) = (median(|| Packets::new().visit_cpus().unwrap()), median(wait_for_grace_period));
        println!("every CPU visited: {visits:?}, grace period: {grace:?} (medians)");
        assert_eq!(sched_getaffinity(None).unwrap(), allowed);
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpus("0\n"), Some(vec![0]));
        assert_eq!(cpus("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        for unreadable in ["", "0-", "a", "0-4000000"] {
            assert_eq!(cpus(unreadable), None, "{unreadable}");
        }
    }
}
