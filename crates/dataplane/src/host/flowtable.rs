//! Flowtables of other programs, through which packets of established connections bypass the forward hook.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::{Finding, family_name, link};
use crate::Error;
use crate::netlink::{Attributes, Socket, Writer};

/// `NETLINK_NETFILTER`.
const NETFILTER: isize = 12;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETFLOWTABLE`.
const GET_FLOWTABLE: u16 = 10 << 8 | 0x17;
/// `NFTA_FLOWTABLE_TABLE`, `_NAME` and `_HOOK`.
const TABLE: u16 = 1;
const NAME: u16 = 2;
const HOOK: u16 = 3;
/// `NFTA_FLOWTABLE_HOOK_DEVS`, and `NFTA_DEVICE_NAME` and `NFTA_DEVICE_PREFIX` in it.
const DEVICES: u16 = 3;
const DEVICE_NAME: u16 = 1;
const DEVICE_PREFIX: u16 = 2;
/// The length of `struct nfgenmsg`, whose first byte is the family.
const HEADER: usize = 4;

/// The flowtables that contain interfaces of pods.
pub(super) fn findings(pod_interfaces: &BTreeSet<String>) -> Result<Vec<Finding>, Error> {
    if pod_interfaces.is_empty() {
        return Ok(Vec::new());
    }
    let mut socket = Socket::open(NETFILTER).map_err(|source| Error::Socket { protocol: "netfilter", source })?;
    let all_families = |writer: &mut Writer| writer.raw(&[0; HEADER]);
    let bodies = match socket.dump(GET_FLOWTABLE, all_families) {
        Ok(bodies) => bodies,
        Err(error) if unknown(&error) => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { what: "flowtables", source }),
    };
    if bodies.is_empty() {
        return Ok(Vec::new());
    }
    // For a bridge, its ports: packets enter through them.
    let mut devices = pod_interfaces.clone();
    devices.extend(link::members(&mut super::socket()?, pod_interfaces)?);
    Ok(bodies.iter().filter_map(|body| finding(body, &devices)).collect())
}

/// Whether the kernel has no flowtables, or no nftables at all.
fn unknown(error: &std::io::Error) -> bool {
    let errnos = [Errno::EOPNOTSUPP, Errno::ENOENT, Errno::EINVAL];
    errnos.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// The flowtable in a message, if it contains a pod's interface.
fn finding(body: &[u8], pods: &BTreeSet<String>) -> Option<Finding> {
    let attributes = Attributes::after(body, HEADER);
    let device = attributes.nest(HOOK).nest(DEVICES).iter().find_map(|(kind, value)| {
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        let text = std::str::from_utf8(value.get(..end)?).ok()?;
        match kind {
            DEVICE_NAME => pods.get(text).cloned(),
            DEVICE_PREFIX => pods.iter().find(|port| port.starts_with(text)).cloned(),
            _ => None,
        }
    })?;
    Some(Finding::Flowtable {
        table: format!("{} {}", family_name(*body.first()?), attributes.string(TABLE)?),
        flowtable: attributes.string(NAME)?.to_owned(),
        device,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(devices: &[(u16, &str)]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.raw(&[1, 0, 0, 0]);
        writer.string(TABLE, "filter");
        writer.string(NAME, "fast");
        writer.nest(HOOK, |writer| {
            writer.be32(1, 0);
            writer.be32(2, 0);
            writer.nest(DEVICES, |writer| {
                for (kind, device) in devices {
                    writer.string(*kind, device);
                }
            });
        });
        writer.bytes().to_vec()
    }

    #[test]
    fn a_flowtable_matters_if_an_interface_of_pods_is_in_it() {
        let ports: BTreeSet<String> = ["cni0".to_owned(), "veth12".to_owned()].into();
        let found = |devices: &[(u16, &str)]| match finding(&message(devices), &ports) {
            Some(Finding::Flowtable { table, flowtable, device }) => {
                assert_eq!((table.as_str(), flowtable.as_str()), ("inet filter", "fast"));
                Some(device)
            }
            _ => None,
        };
        assert_eq!(found(&[(1, "eth0"), (1, "cni0")]).as_deref(), Some("cni0"));
        assert_eq!(found(&[(2, "veth")]).as_deref(), Some("veth12"));
        assert_eq!(found(&[(1, "eth0"), (1, "veth"), (1, "cni01")]), None);
        assert_eq!(found(&[]), None);
        assert_eq!(finding(&[], &ports), None);
        let whole = message(&[(1, "cni0")]);
        for length in 0..whole.len() {
            // Truncated anywhere, it is read without a panic.
            finding(whole.get(..length).unwrap(), &ports);
        }
    }
}
