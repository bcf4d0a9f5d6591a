//! Address blocks and IPs: the strict syntax of new objects, and the sloppy one of old objects.
//!
//! Until 1.36, Kubernetes parsed IPs with Go's sloppy parser: leading zeros are decimal, host bits are masked, an
//! IPv4-mapped block is the IPv4 block. Such values stay valid in existing objects, so they must be read the same way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a block is rejected in a new object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) hint: Option<String>,
}

const NOT_A_BLOCK: &str = "is not an address block such as 10.9.8.0/24 or 2001:db8::/64";

/// A block as the API server accepts it in a new object: no leading zeros, no host bits, no IPv4-mapped address.
pub(super) fn strict(text: &str) -> Result<IpNet, Refused> {
    let block = sloppy(text).ok_or_else(|| not_a_block(text))?;
    let meant = || Some(format!("write {block}"));
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let leading_zero = prefix.len() > 1 && prefix.starts_with('0');
    match address.parse::<IpAddr>() {
        Ok(_) if leading_zero => {
            Err(Refused { reason: "must not have leading zeros in its prefix length", hint: meant() })
        }
        Err(_) => Err(Refused { reason: "must not have leading zeros in its address", hint: meant() }),
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(Refused { reason: "must not be an IPv4-mapped IPv6 address", hint: meant() })
        }
        Ok(address) if address != block.network() => Err(Refused {
            reason: "has address bits set beyond its prefix length",
            hint: Some(format!("write {block} for the network, or {} for the one address", IpNet::from(address))),
        }),
        Ok(_) => Ok(block),
    }
}

fn not_a_block(text: &str) -> Refused {
    let hint = match sloppy_address(text) {
        Some(address) => Some(format!("write {} for that one address", IpNet::from(address))),
        None if text == "any" || text == "all" || text == "*" => {
            Some("leave out `from`/`to` to allow any peer, or write 0.0.0.0/0 and ::/0".to_owned())
        }
        None => None,
    };
    Refused { reason: NOT_A_BLOCK, hint }
}

/// A block as Go's sloppy parser reads it.
pub(super) fn sloppy(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = decimal(prefix)?;
    let block = if let Some(v4) = sloppy_v4(address) {
        IpNet::V4(Ipv4Net::new(v4, prefix).ok()?.trunc())
    } else {
        let v6 = sloppy_v6(address)?;
        match (v6.to_ipv4_mapped(), prefix.checked_sub(96)) {
            (Some(v4), Some(prefix)) => IpNet::V4(Ipv4Net::new(v4, prefix).ok()?.trunc()),
            _ => IpNet::V6(Ipv6Net::new(v6, prefix).ok()?.trunc()),
        }
    };
    Some(block)
}

/// An address as Go's sloppy parser reads it.
pub(super) fn sloppy_address(text: &str) -> Option<IpAddr> {
    sloppy_v4(text).map(IpAddr::V4).or_else(|| sloppy_v6(text).map(IpAddr::V6))
}

/// Four decimal numbers; leading zeros are allowed and ignored.
fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// A decimal number; leading zeros are ignored.
fn decimal(text: &str) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    without_zeros(text).parse().ok()
}

fn without_zeros(digits: &str) -> &str {
    match digits.trim_start_matches('0') {
        "" if !digits.is_empty() => "0",
        rest => rest,
    }
}

/// An IPv6 address, which may end in a sloppy IPv4 one. A zone is an error.
fn sloppy_v6(text: &str) -> Option<Ipv6Addr> {
    let plain = |groups: &str| groups.split(':').map(without_zeros).collect::<Vec<_>>().join(":");
    if !text.contains('.') {
        return plain(text).parse().ok();
    }
    let (head, tail) = text.rsplit_once(':')?;
    let [a, b, c, d] = sloppy_v4(tail)?.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    format!("{}:{high:x}:{low:x}", plain(head)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn sloppy_blocks() {
        for (text, block) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("010.0.0.0/8", "10.0.0.0/8"),
            ("10.000.00.0/08", "10.0.0.0/8"),
            ("192.168.0.5/24", "192.168.0.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("255.255.255.255/32", "255.255.255.255/32"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:010.1.0.0/112", "10.1.0.0/16"),
            ("::ffff:a00:0/128", "10.0.0.0/32"),
            ("::ffff:10.0.0.0/96", "0.0.0.0/0"),
            ("64:ff9b::10.0.0.1/128", "64:ff9b::a00:1/128"),
            ("2001:00db8::00000/064", "2001:db8::/64"),
        ] {
            assert_eq!(sloppy(text), Some(net(block)), "{text}");
        }
    }

    #[test]
    fn an_ipv4_mapped_block_wider_than_the_mapping_stays_ipv6() {
        assert_eq!(sloppy("::ffff:0.0.0.0/80"), Some(net("::/80")));
    }

    #[test]
    fn not_blocks() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0.0/8",
            "256.0.0.0/8",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "fe80::1%eth0/64",
            "a.b.c.d/8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "1::2::3/64",
            "10..0.0/8",
            "0x0a.0.0.0/8",
            "10.0.0.0/0x8",
            "10.0.0.0/256",
        ] {
            assert_eq!(sloppy(text), None, "{text}");
            assert_eq!(strict(text).unwrap_err().reason, NOT_A_BLOCK, "{text}");
        }
    }

    #[test]
    fn new_objects_must_write_blocks_plainly() {
        for text in ["10.0.0.0/8", "2001:DB8:0::/64", "::/0", "1.2.3.4/32", "64:ff9b::10.0.0.1/128"] {
            assert!(strict(text).is_ok(), "{text}");
        }
        for (text, reason, hint) in [
            ("010.0.0.0/8", "leading zeros in its address", "write 10.0.0.0/8"),
            ("10.0.0.0/08", "leading zeros in its prefix", "write 10.0.0.0/8"),
            ("192.168.0.5/24", "bits set beyond", "write 192.168.0.0/24 for the network, or 192.168.0.5/32"),
            ("::ffff:10.0.0.0/104", "IPv4-mapped", "write 10.0.0.0/8"),
            ("10.0.0.1", "is not an address block", "write 10.0.0.1/32"),
            ("*", "is not an address block", "0.0.0.0/0"),
        ] {
            let refused = strict(text).unwrap_err();
            assert!(refused.reason.contains(reason), "{text}: {}", refused.reason);
            assert!(refused.hint.unwrap().contains(hint), "{text}");
        }
    }
}
