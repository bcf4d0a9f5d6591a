//! The agent on a node of the lab: real packets, a real kernel, a real API server or a directory of manifests.
//!
//! Seen to fail when:
//! - the kernel is written to before everything is listed; the agent is ready at once; failures to read objects are not
//!   counted, end the agent, or make it unready (`outage.rs`);
//! - the log calls a new policy changed; namespaces are not relabelled; deleted policies stay; the gauges are not kept; the
//!   two families of drops are swapped; a metric has another name (`story.rs`);
//! - the reason of a rejected manifest is not logged; operations are counted twice; the agent surveys the node fifty
//!   times a second (`directory.rs`);
//! - the table does not outlive the agent; it is replaced whole, or deleted first, at a restart (`restart.rs`);
//! - the table has no owner; cleanup ignores owners; a table that another program changed is not read back; an
//!   unchanged one is repaired; a failed commit is not retried; changes by others are only noticed at the next survey
//!   of the node; a node that cannot be enforced is not in the log; counters are read for scrapes
//!   only, so that untracked drops are not logged (`neighbours.rs`);
//! - the ClusterRole lacks get of networkpolicies, or has get of pods; its binding names another namespace; the log of
//!   a refused list, or of a refused question about a namespace, does not name the missing right (`rights.rs`);
//! - ranges are taken from podCIDRs alone, or not asked for again; blocked IPs are never released; answers to the
//!   node's probes of a new pod are blocked too (`starting.rs`).

mod bed;
mod cluster;
mod directory;
mod neighbours;
mod outage;
mod port;
mod restart;
mod rights;
mod starting;
mod stderr;
mod story;
mod upgrade;
