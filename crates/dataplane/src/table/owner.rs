//! Who holds a netlink socket.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// `NETLINK_NETFILTER`.
const NETFILTER: &str = "12";

/// The process that holds the nf_tables socket of a port, in words. The port itself says little: it is the process number
/// as its own process namespace counts, or any number.
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

/// The process that has a file open, and its name.
fn holder(file: &str) -> Option<(String, String)> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbered = |name: &OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let mut processes = processes.filter(|entry| numbered(&entry.file_name())).map(|entry| entry.path());
    processes.find(|process| holds(process, file)).and_then(|process| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        Some((process.file_name()?.to_str()?.to_owned(), name.trim().to_owned()))
    })
}

fn holds(process: &Path, file: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == file))
}
