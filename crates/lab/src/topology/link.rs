//! Waiting until links carry packets.
//!
//! Bringing an interface up returns before it works: the kernel enables bridge ports and IPv6 on it a little later,
//! from a work queue (`net/core/link_watch.c`), and packets sent before that are lost. A lost neighbour solicitation
//! costs a second. So the lab waits for every interface. Asking for a single link makes the kernel catch up at once
//! (`linkwatch_sync_dev` in `rtnl_getlink`, Linux 6.9); older kernels are polled.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// How long a link may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Polling interval.
const INTERVAL: Duration = Duration::from_millis(2);

/// What makes an interface usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link<'a> {
    /// It has its IPv6 link-local address.
    Addressed(&'a str),
    /// As a port of a bridge it forwards.
    Port(&'a str),
}

/// Waits until all of these interfaces of a namespace are usable.
pub(crate) fn await_links(namespace: &Namespace, links: &[Link<'_>]) -> Result<()> {
    let mut question = String::new();
    for Link::Addressed(name) | Link::Port(name) in links {
        writeln!(question, "link show dev {name}").unwrap_or(());
    }
    let ports = links.iter().filter(|link| matches!(link, Link::Port(_))).count();
    let start = Instant::now();
    loop {
        let answer = namespace.output("ip", &["-details", "-batch", "-"], &question)?;
        if answer.matches("bridge_slave state forwarding").count() == ports && are_addressed(namespace, links)? {
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            let what = format!("readiness of {links:?} in `{}`", namespace.name());
            return Err(Error::Deadline { what, waited: LIMIT });
        }
        thread::sleep(INTERVAL);
    }
}

fn are_addressed(namespace: &Namespace, links: &[Link<'_>]) -> Result<bool> {
    let read = namespace.run(|| fs::read_to_string("/proc/thread-self/net/if_inet6"))?;
    let table = read.map_err(Error::socket::<io::Error>("read the IPv6 addresses", namespace.name()))?;
    Ok(links.iter().all(|link| match link {
        Link::Addressed(name) => table.lines().any(|line| is_link_local_of(line, name)),
        Link::Port(_) => true,
    }))
}

/// Whether a line of `/proc/net/if_inet6` (address, index, prefix length, scope, flags, name) is a link-local address
/// of the interface, other than the routed gateway's fixed one.
fn is_link_local_of(line: &str, name: &str) -> bool {
    let is_kernels = line.starts_with("fe80") && !line.starts_with("fe800000000000000000000000000001");
    is_kernels && line.split_whitespace().next_back() == Some(name)
}
