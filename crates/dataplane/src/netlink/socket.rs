//! A netlink socket: requests, dumps, and the sending of whole batches.

use std::io;
use std::time::Duration;

use netlink_sys::{Socket as Inner, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::read::{HEADER, Message};
use super::{ACK, DUMP, Header, REQUEST, Writer};

/// `NLMSG_ERROR`, which is also an acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: something changed while the kernel was dumping.
const INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: an error without the message that caused it.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`.
const EXTENDED: u16 = 0x200;
/// `NLMSGERR_ATTR_OFFS`.
const ATTRIBUTE_OFFSET: u16 = 2;

/// Requests are numbered up to here, batches above it.
const SEQUENCES: u32 = (1 << 31) - 1;

/// The kernel writes at most 32 KiB into one datagram of a dump.
const DATAGRAM: usize = 128 << 10;
/// Room for the errors of thousands of messages of a batch.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A dump that keeps being interrupted is given up after this many attempts. Each takes milliseconds, and other programs
/// commit a few times a second; one that interrupts all of these commits in a loop, and no attempt would succeed.
const TRIES: usize = 50;
/// The kernel answers within the system call; this only keeps a surprise from blocking the agent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: Inner,
    /// Its netlink port.
    port: u32,
    sequence: u32,
    send_buffer: usize,
    buffer: Vec<u8>,
}

/// The kernel's answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It took effect.
    Done(u32),
    /// It was rejected, with the position of the faulty attribute in the message, if known.
    Refused {
        /// The message's sequence number.
        sequence: u32,
        /// Why.
        errno: Errno,
        /// The offset of the attribute from the start of the message.
        offset: Option<usize>,
    },
    /// The kernel had no room for an answer.
    Lost,
}

impl Socket {
    /// Opens and binds a socket of a netlink protocol.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut inner = Inner::new(protocol)?;
        let port = inner.bind_auto()?.port_number();
        inner.set_cap_ack(true)?;
        inner.set_ext_ack(true)?;
        // Without CAP_NET_ADMIN in the initial user namespace, forcing the size fails; dumps then still work.
        if setsockopt(&inner, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&inner, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        let patience = TimeVal::seconds(i64::try_from(PATIENCE.as_secs()).unwrap_or(10));
        setsockopt(&inner, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self { inner, port, sequence: 0, send_buffer: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1) & SEQUENCES;
        self.sequence
    }

    /// Sends bytes to the kernel, which acts on them before this returns.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A message longer than the send buffer less some bookkeeping fails with EMSGSIZE.
        let wanted = bytes.len() + (64 << 10);
        if wanted > self.send_buffer {
            if setsockopt(&self.inner, sockopt::SndBufForce, &wanted).is_err() {
                setsockopt(&self.inner, sockopt::SndBuf, &wanted)?;
            }
            self.send_buffer = wanted;
        }
        self.send_all(bytes)?;
        Ok(())
    }

    /// Leaves room for only a few answers.
    #[cfg(test)]
    pub(crate) fn shrink(&self) {
        setsockopt(&self.inner, sockopt::RcvBuf, &1).expect("any size will do");
    }

    /// The answers that have arrived. Call it after [`Socket::send`] of a batch: all have arrived then.
    pub(crate) fn answers(&mut self) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        loop {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(error) if is(&error, Errno::EAGAIN) => return Ok(answers),
                Err(error) if is(&error, Errno::EINTR) => continue,
                Err(error) if is(&error, Errno::ENOBUFS) || is(&error, Errno::EBADMSG) => {
                    answers.push(Answer::Lost);
                    continue;
                }
                Err(error) => return Err(error),
            }
            // The rest of an earlier request's answer does not belong to a batch.
            let errors =
                Message::all(&self.buffer).filter(|message| message.kind == ERROR && message.sequence > SEQUENCES);
            answers.extend(errors.filter_map(|message| answer(&message)));
        }
    }

    /// Its netlink port.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Joins a multicast group.
    pub(crate) fn join(&self, group: u32) -> io::Result<()> {
        self.inner.add_membership(group)
    }

    /// Waits for messages, at most ten seconds, and returns whether one matched `meant`, or some were lost.
    pub(crate) fn wait_for(&mut self, meant: impl Fn(&Message<'_>) -> bool) -> io::Result<bool> {
        match self.receive(MsgFlags::empty()) {
            Ok(()) => Ok(Message::all(&self.buffer).any(|message| meant(&message))),
            Err(error) if is(&error, Errno::EAGAIN) || is(&error, Errno::EINTR) => Ok(false),
            Err(error) if is(&error, Errno::ENOBUFS) || is(&error, Errno::EBADMSG) => {
                // The kernel reports the next loss only after everything pending has been read.
                self.drain();
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one request and waits for its acknowledgement; returns the bodies of the messages before it.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Writer),
    ) -> io::Result<Vec<Vec<u8>>> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        writer.message(Header { kind, flags: flags | REQUEST | ACK, sequence }, fill);
        self.send(writer.bytes())?;
        let mut bodies = Vec::new();
        self.each(sequence, |body| bodies.push(body.to_vec()))?;
        Ok(bodies)
    }

    /// Repeats a dump until nothing changes during it; returns the bodies of the messages.
    pub(crate) fn dump(&mut self, kind: u16, fill: impl Fn(&mut Writer)) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..TRIES {
            let mut bodies = Vec::new();
            if self.dump_once(kind, &fill, |body| bodies.push(body.to_vec()))? {
                return Ok(bodies);
            }
        }
        Err(Errno::EINTR.into())
    }

    /// Dumps once, and passes on the body of each message as it arrives: at most one datagram is in memory. Returns
    /// whether the dump was complete, and nothing changed during it.
    pub(crate) fn dump_once(
        &mut self,
        kind: u16,
        fill: impl Fn(&mut Writer),
        take: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        writer.message(Header { kind, flags: REQUEST | DUMP, sequence }, &fill);
        self.send(writer.bytes())?;
        match self.each(sequence, take) {
            Ok(interrupted) => Ok(!interrupted),
            // Some of it was lost, or the rest of an earlier dump is still pending.
            Err(error) if [Errno::ENOBUFS, Errno::EBADMSG, Errno::EBUSY].iter().any(|errno| is(&error, *errno)) => {
                self.drain();
                Ok(false)
            }
            Err(error) => {
                self.drain();
                Err(error)
            }
        }
    }

    /// Passes on messages up to the end of a dump or an acknowledgement. Returns whether the dump was interrupted.
    fn each(&mut self, sequence: u32, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut interrupted = false;
        loop {
            match self.receive(MsgFlags::empty()) {
                Err(error) if is(&error, Errno::EINTR) => continue,
                other => other?,
            }
            for message in Message::all(&self.buffer).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    ERROR | DONE => {
                        let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return match code {
                            0 => Ok(interrupted),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => take(message.body),
                }
            }
        }
    }

    /// Discards pending messages, including the rest of a dump, which the kernel continues as it is read.
    fn drain(&mut self) {
        let mut failures = 0;
        while failures < TRIES {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(error) if is(&error, Errno::EAGAIN) => return,
                Err(_) => failures += 1,
            }
        }
    }

    /// Reads a datagram from the kernel into the buffer.
    fn receive(&mut self, flags: MsgFlags) -> io::Result<()> {
        loop {
            self.buffer.clear();
            // With this flag the length is that of the datagram, even if the buffer is shorter.
            let (length, from) = self.receive_any(flags | MsgFlags::MSG_TRUNC)?;
            if from.port_number() != 0 {
                continue;
            }
            // A truncated datagram would be read as a complete one.
            let whole = length == self.buffer.len() && Message::are_whole(&self.buffer);
            return if whole { Ok(()) } else { Err(Errno::EBADMSG.into()) };
        }
    }

    #[cfg(not(any(test, feature = "faults")))]
    fn receive_any(&mut self, flags: MsgFlags) -> io::Result<(usize, SocketAddr)> {
        self.inner.recv_from(&mut self.buffer, flags.bits())
    }

    #[cfg(any(test, feature = "faults"))]
    fn receive_any(&mut self, flags: MsgFlags) -> io::Result<(usize, SocketAddr)> {
        super::faults::receive(&self.inner, &mut self.buffer, flags)
    }

    #[cfg(not(any(test, feature = "faults")))]
    fn send_all(&self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.send_to(bytes, &SocketAddr::new(0, 0), 0)
    }

    #[cfg(any(test, feature = "faults"))]
    fn send_all(&self, bytes: &[u8]) -> io::Result<usize> {
        super::faults::send(&self.inner, bytes)
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn answer(message: &Message<'_>) -> Option<Answer> {
    let code = i32::from_ne_bytes(*message.body.first_chunk()?);
    if code == 0 {
        return Some(Answer::Done(message.sequence));
    }
    // After the code comes the header of the message at fault, and its rest unless the answer is capped.
    let original = Message::all(message.body.get(4..)?).next();
    let echoed = match original {
        Some(original) if message.flags & CAPPED == 0 => original.body.len().next_multiple_of(4),
        _ => 0,
    };
    let extended = super::Attributes::after(message.body, 4 + HEADER + echoed);
    let offset = (message.flags & EXTENDED != 0).then(|| extended.ne32(ATTRIBUTE_OFFSET)).flatten();
    Some(Answer::Refused {
        sequence: message.sequence,
        errno: Errno::from_raw(-code),
        offset: offset.and_then(|offset| usize::try_from(offset).ok()),
    })
}
