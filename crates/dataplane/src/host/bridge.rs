//! Turns on netfilter for a bridge.

use nix::errno::Errno;

use super::{link, socket};
use crate::Error;

/// `RTM_NEWLINK`, which changes an existing interface.
const NEW_LINK: u16 = 16;

/// The families that were turned on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switched {
    /// The bridge's IPv4 packets bypassed netfilter.
    pub ipv4: bool,
    /// The same for IPv6.
    pub ipv6: bool,
}

/// Turns on netfilter for a bridge by its own settings (`nf_call_iptables`, `nf_call_ip6tables`), so that the settings
/// of the whole network namespace (`net.bridge.bridge-nf-call-*`) do not matter. Returns what was turned on: nothing if
/// both were on, or if there is no such bridge. It needs only `CAP_NET_ADMIN`.
///
/// The settings have no effect while br_netfilter is not loaded; [`super::findings`] reports that.
///
/// # Errors
/// [`Error::Socket`], [`Error::Read`], [`Error::Bridge`].
pub fn call_netfilter_on_bridge(bridge: &str) -> Result<Switched, Error> {
    let mut socket = socket()?;
    let Some(found) = link::bridges(&mut socket)?.remove(bridge) else { return Ok(Switched::default()) };
    let switched = Switched { ipv4: !found.ipv4, ipv6: !found.ipv6 };
    if switched == Switched::default() {
        return Ok(switched);
    }
    let answer = socket.request(NEW_LINK, 0, |writer| {
        writer.raw(&[0; link::HEADER]);
        writer.string(link::NAME, bridge);
        writer.nest(link::INFO, |writer| {
            writer.string(link::INFO_KIND, "bridge");
            writer.nest(link::INFO_DATA, |writer| {
                writer.attribute(link::CALL_IPTABLES, &[1]);
                writer.attribute(link::CALL_IP6TABLES, &[1]);
            });
        });
    });
    match answer {
        Ok(_) => Ok(switched),
        // It was deleted meanwhile.
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(Switched::default()),
        Err(source) => Err(Error::Bridge { bridge: bridge.to_owned(), source }),
    }
}
