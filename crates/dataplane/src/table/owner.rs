//! Which process holds a netlink socket.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// `NETLINK_NETFILTER`.
const NETFILTER: &str = "12";

/// A description of the process that holds the nf_tables socket with a port. The port itself says little: it is the
/// process number in that process's own namespace, or any number.
pub(super) fn describe(port: u32) -> String {
    let process = inode(port).and_then(|inode| holder(&format!("socket:[{inode}]")));
    match process {
        Some((pid, name)) => format!("process {pid}, {name}"),
        None => format!("netlink port {port}, in another process namespace or just gone"),
    }
}

/// The inode of the socket in this network namespace.
fn inode(port: u32) -> Option<String> {
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").ok()?;
    sockets.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let found = fields.next() == Some(NETFILTER) && fields.next()?.parse() == Ok(port);
        found.then(|| fields.last().map(str::to_owned)).flatten()
    })
}

/// The process that was found last, because a waiting agent asks again and again.
static LAST: AtomicU32 = AtomicU32::new(0);

/// The process that has a file open, and its name.
fn holder(file: &str) -> Option<(u32, String)> {
    let last = LAST.load(Ordering::Relaxed);
    let pid = if holds(last, file) { last } else { search(file)? };
    LAST.store(pid, Ordering::Relaxed);
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, name.trim().to_owned()))
}

fn search(file: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find(|pid| holds(*pid, file))
}

fn holds(pid: u32, file: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == file))
}
