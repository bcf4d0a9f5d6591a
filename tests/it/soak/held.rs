//! The agent's memory and descriptors.

use std::fmt;
use std::fs;

const MIB: u64 = 1024;

/// Growth that does not count as a leak.
const MEMORY_SLACK: u64 = 64 * MIB;
const DESCRIPTORS_SLACK: usize = 16;

/// The minimum and maximum so far, and the values at the start.
pub(crate) struct Held {
    process: u32,
    first: (u64, usize),
    least: (u64, usize),
    most: (u64, usize),
}

impl Held {
    pub(crate) fn of(process: u32) -> Self {
        let now = measure(process);
        Self { process, first: now, least: now, most: now }
    }

    /// Measures again. Growth like that of a leak is an error.
    pub(crate) fn measure(&mut self) -> Result<(), String> {
        let (memory, descriptors) = measure(self.process);
        self.least = (self.least.0.min(memory), self.least.1.min(descriptors));
        self.most = (self.most.0.max(memory), self.most.1.max(descriptors));
        if memory > 2 * self.first.0 + MEMORY_SLACK || descriptors > self.first.1 + DESCRIPTORS_SLACK {
            return Err(format!("the agent has grown: {self}"));
        }
        Ok(())
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((memory, descriptors), (more, most)) = (self.least, self.most);
        write!(f, "rss {}..{} MiB, fds {descriptors}..{most}", memory / MIB, more / MIB)
    }
}

/// Resident memory in KiB, and open descriptors.
fn measure(process: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = memory.split_whitespace().next().unwrap().parse().unwrap();
    (memory, fs::read_dir(format!("/proc/{process}/fd")).unwrap().count())
}
