//! Waiting for packets.

use std::thread;
use std::time::Duration;

use rustix::thread::{MembarrierCommand, membarrier};

/// A packet is in flight in our chains for microseconds, or for as long as the hypervisor stops its CPU.
const LONG: Duration = Duration::from_millis(50);

/// Returns when every packet that was in the kernel's hooks at the call has left them, after about 8 ms.
///
/// Hooks run in an RCU read-side section (`nf_hook`), and `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period if
/// there is more than one CPU (Linux 4.3, `kernel/sched/membarrier.c`). On a single CPU no packet is in flight while
/// this runs: forwarded packets are judged in softirq.
pub(crate) fn leave() {
    if let Err(error) = membarrier(MembarrierCommand::Global) {
        // Kernels with nohz_full CPUs reject it.
        tracing::debug!(%error, "no membarrier; waiting {LONG:?} instead");
        thread::sleep(LONG);
    }
}
