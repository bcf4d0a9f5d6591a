//! The fence: datagrams that come back only after everything that was sent before them.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// More devices than the longest path has: pod, node, fabric, node, pod, with address resolution on each link.
const FENCES: u32 = 24;
/// How long a fence may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

/// Two sockets joined by the fabric's loopback device.
#[derive(Debug)]
pub(super) struct Fence {
    sender: UdpSocket,
    receiver: UdpSocket,
    number: u64,
}

impl Fence {
    pub(super) fn open(fabric: &Namespace) -> Result<Self> {
        let opened = fabric.run(|| {
            let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            sender.connect(receiver.local_addr()?)?;
            receiver.connect(sender.local_addr()?)?;
            receiver.set_read_timeout(Some(LIMIT))?;
            Ok(Self { sender, receiver, number: 0 })
        })?;
        opened.map_err(Error::socket::<io::Error>("open the fence", fabric.name()))
    }

    /// Sends fences one after the other, each when the previous one is back.
    pub(super) fn pass(&mut self) -> Result<()> {
        for _ in 0..FENCES {
            self.number += 1;
            let expected = self.number.to_be_bytes();
            self.sender.send(&expected).map_err(Error::socket::<io::Error>("send a fence", "fabric"))?;
            let mut seen = [0; 8];
            while seen != expected {
                self.receiver.recv(&mut seen).map_err(|error| match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Fence { waited: LIMIT },
                    _ => Error::socket::<io::Error>("receive a fence", "fabric")(error),
                })?;
            }
        }
        Ok(())
    }
}
