//! Faults under a thread's netlink sockets, for tests: the n-th system call fails as it can fail in a kernel that is
//! short of memory, or whose table other programs change.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use super::read::{HEADER, Message};

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The system call fails with this error number. Nothing was sent or received, except that ENOBUFS loses pending
    /// messages.
    Fails(i32),
    /// The message is sent and takes effect, but its answers are lost; or the received datagram is lost.
    AnswerLost,
    /// Half of the received datagram is cut off.
    Short,
    /// The kernel rejects a message, of a batch the one at this position (or the last), with this error number.
    Refused(usize, i32),
}

/// A test's action instead of a fault.
type Act = Box<dyn FnOnce()>;

#[derive(Default)]
struct Layer {
    /// System calls so far.
    calls: u64,
    plan: Vec<(u64, Fault)>,
    act: Option<(u64, Act)>,
    /// Faults that happened.
    injected: u64,
    /// Answers that the kernel did not give.
    made_up: VecDeque<Vec<u8>>,
    /// Answers are lost until the next message is sent.
    lose: bool,
}

thread_local! {
    static LAYER: RefCell<Layer> = RefCell::default();
}

/// Plans faults at the given system calls of this thread, counted from 0 and from now.
pub fn arm(plan: &[(u64, Fault)]) {
    LAYER.with_borrow_mut(|layer| *layer = Layer { plan: plan.to_vec(), ..Layer::default() });
}

/// Plans an action just before a system call of this thread, counted as with [`arm`].
pub fn act_before(call: u64, act: impl FnOnce() + 'static) {
    LAYER.with_borrow_mut(|layer| *layer = Layer { act: Some((call, Box::new(act))), ..Layer::default() });
}

/// Ends all faults. Returns how many system calls there were, and how many of them failed.
pub fn disarm() -> (u64, u64) {
    LAYER.with_borrow_mut(|layer| {
        let layer = std::mem::take(layer);
        (layer.calls, layer.injected)
    })
}

/// Runs something without faults and without counting, while faults are armed.
pub fn without<T>(act: impl FnOnce() -> T) -> T {
    let layer = LAYER.take();
    let result = act();
    LAYER.set(layer);
    result
}

/// The fault of the next system call.
fn next() -> Option<Fault> {
    let (fault, act) = LAYER.with_borrow_mut(|layer| {
        let call = layer.calls;
        layer.calls += 1;
        let fault = layer.plan.iter().find(|(at, _)| *at == call).map(|(_, fault)| *fault);
        layer.injected += u64::from(fault.is_some());
        (fault, layer.act.take_if(|(at, _)| *at == call))
    });
    if let Some((_, act)) = act {
        act();
    }
    fault
}

pub(super) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    LAYER.with_borrow_mut(|layer| layer.lose = false);
    match next() {
        Some(Fault::Fails(errno)) => return Err(io::Error::from_raw_os_error(errno)),
        Some(Fault::Refused(place, errno)) => {
            LAYER.with_borrow_mut(|layer| layer.made_up.extend(refusal(bytes, place, errno)));
            return Ok(bytes.len());
        }
        Some(Fault::AnswerLost) => LAYER.with_borrow_mut(|layer| layer.lose = true),
        Some(Fault::Short) | None => {}
    }
    socket.send_to(bytes, &SocketAddr::new(0, 0), 0)
}

pub(super) fn receive(socket: &Socket, buffer: &mut Vec<u8>, flags: MsgFlags) -> io::Result<(usize, SocketAddr)> {
    let fault = next();
    if let Some(answer) = LAYER.with_borrow_mut(|layer| layer.made_up.pop_front()) {
        buffer.extend_from_slice(&answer);
        return Ok((answer.len(), SocketAddr::new(0, 0)));
    }
    let lose = LAYER.with_borrow_mut(|layer| std::mem::take(&mut layer.lose));
    match fault {
        Some(Fault::Fails(errno)) if errno != Errno::ENOBUFS as i32 => Err(io::Error::from_raw_os_error(errno)),
        // Sending can be rejected, receiving cannot.
        Some(Fault::Refused(..)) => Err(Errno::ENOMEM.into()),
        Some(Fault::Fails(_) | Fault::AnswerLost) => {
            let lost = socket.recv_from(buffer, MsgFlags::MSG_DONTWAIT.bits());
            buffer.clear();
            Err(if lost.is_ok() { Errno::ENOBUFS } else { Errno::EINTR }.into())
        }
        _ if lose => {
            while socket.recv_from(buffer, MsgFlags::MSG_DONTWAIT.bits()).is_ok() {
                buffer.clear();
            }
            Err(Errno::ENOBUFS.into())
        }
        Some(Fault::Short) => {
            let (length, from) = socket.recv_from(buffer, flags.bits())?;
            buffer.truncate(length / 2);
            Ok((length, from))
        }
        None => socket.recv_from(buffer, flags.bits()),
    }
}

/// The kernel's answer to a rejected message. Only in a batch does it say that something is missing: for a read that
/// would be an answer, not an error, and a wrong one.
fn refusal(bytes: &[u8], place: usize, errno: i32) -> Option<Vec<u8>> {
    /// `NLMSG_ERROR`.
    const ERROR: u16 = 2;
    // The first and the last message of a batch only delimit it.
    let messages: Vec<_> = Message::all(bytes).collect();
    let batch = messages.len() > 2;
    let inner = if batch { messages.get(1..messages.len() - 1)? } else { &messages };
    let refused = inner.get(place).or(inner.last())?;
    let errno = if !batch && errno == Errno::ENOENT as i32 { Errno::ENOMEM as i32 } else { errno };
    let length = u32::try_from(HEADER + 4 + HEADER).ok()?;
    let mut answer = Vec::new();
    answer.extend_from_slice(&length.to_ne_bytes());
    answer.extend_from_slice(&ERROR.to_ne_bytes());
    // NLM_F_CAPPED: without the message itself.
    answer.extend_from_slice(&0x100_u16.to_ne_bytes());
    answer.extend_from_slice(&refused.sequence.to_ne_bytes());
    answer.extend_from_slice(&0_u32.to_ne_bytes());
    answer.extend_from_slice(&(-errno).to_ne_bytes());
    let header = u32::try_from(HEADER + refused.body.len()).ok()?;
    answer.extend_from_slice(&header.to_ne_bytes());
    answer.extend_from_slice(&refused.kind.to_ne_bytes());
    answer.extend_from_slice(&refused.flags.to_ne_bytes());
    answer.extend_from_slice(&refused.sequence.to_ne_bytes());
    answer.extend_from_slice(&0_u32.to_ne_bytes());
    Some(answer)
}
