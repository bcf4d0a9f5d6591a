//! Running conversations while their policy is withdrawn and restored.

use std::net::IpAddr;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::{Family, Flow, FrameSocket, Stream};

use super::manifests::{self, PORT, SERVICE_PORT};
use super::screen::{self, Mark, Screen, ms};
use super::stage::Stage;
use crate::output::Failure;

/// How often each conversation sends a message.
const INTERVAL: Duration = Duration::from_millis(2);
/// How many messages to send after the cut to confirm it.
const MESSAGES: u64 = 150;
/// The longest wait for anything.
const LIMIT: Duration = Duration::from_secs(10);
/// Protocol numbers of IP.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A conversation that the withdrawal must cut.
struct Conversation {
    words: &'static str,
    stream: Stream,
    /// The source and protocol of its packets at the server.
    client: IpAddr,
    protocol: u8,
}

/// Withdraws a policy under running conversations and restores it. Returns how many expectations failed.
pub(super) fn show(stage: &mut Stage, screen: &Screen) -> Result<usize, Failure> {
    let concerned = concerned(stage)?;
    let backend = stage.pod("shop/backend")?;
    let four = backend.address(Family::V4)?;
    let other = Stream::start(&Flow::udp(stage.pod("ops/monitor")?, four, PORT), INTERVAL)?;
    let frames = backend.frames()?;
    for stream in concerned.iter().map(|conversation| &conversation.stream).chain([&other]) {
        stream.wait_alive(LIMIT)?;
    }
    screen::paragraph(&format!("Three conversations run, each with a message every {} ms.", INTERVAL.as_millis()))?;

    let mut wrong = withdraw(stage, screen, &concerned, &frames)?;
    wrong += usize::from(!continued(&other, screen)?);
    give_back(stage, screen, &concerned)?;
    wrong += usize::from(!continued(&other, screen)?);
    Ok(wrong)
}

/// The conversations that the policy allows.
fn concerned(stage: &Stage) -> Result<[Conversation; 2], Failure> {
    let frontend = stage.pod("shop/frontend")?;
    let [service, _] = stage.service();
    let six = stage.pod("shop/backend")?.address(Family::V6)?;
    Ok([
        Conversation {
            words: "TCP  frontend → Service, IPv4",
            stream: Stream::start(&Flow::tcp(frontend, service, SERVICE_PORT), INTERVAL)?,
            client: frontend.address(Family::V4)?,
            protocol: TCP,
        },
        Conversation {
            words: "UDP  frontend → backend, IPv6",
            stream: Stream::start(&Flow::udp(frontend, six, PORT), INTERVAL)?,
            client: frontend.address(Family::V6)?,
            protocol: UDP,
        },
    ])
}

fn withdraw(
    stage: &mut Stage,
    screen: &Screen,
    concerned: &[Conversation],
    frames: &FrameSocket,
) -> Result<usize, Failure> {
    screen.withdrawn(&manifests::FRONTEND)?;
    let changed = stage.remove(&manifests::FRONTEND)?;
    let commits = stage.await_commits(changed)?;
    let committed = commits.iter().map(|commit| commit.at).min().unwrap_or_else(Instant::now);
    screen.commits(&commits)?;
    let mut wrong = 0;
    for (conversation, arrived) in concerned.iter().zip(count_after_cut(stage, frames, concerned)?) {
        let stats = conversation.stream.stats();
        let is_cut = arrived == 0 && stats.last_answered_sent_at.is_none_or(|sent| sent < committed);
        wrong += usize::from(!is_cut);
        let last = stats.last_reply_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(changed));
        let line = format!("cut after {}; {arrived} packets reached the backend since the commit", ms(last));
        screen.observation(if is_cut { Mark::Cut } else { Mark::Wrong }, conversation.words, &line)?;
    }
    Ok(wrong)
}

fn give_back(stage: &mut Stage, screen: &Screen, concerned: &[Conversation]) -> Result<(), Failure> {
    screen.returned(&manifests::FRONTEND)?;
    let begun = Instant::now();
    thread::scope(|scope| {
        // Wait from the beginning: the first reply counts, not the one at the time of the check.
        let wait = |conversation| scope.spawn(move || Conversation::wait_alive_after(conversation, begun));
        let waits: Vec<_> = concerned.iter().map(wait).collect();
        let changed = stage.write(&manifests::FRONTEND)?;
        screen.commits(&stage.await_commits(changed)?)?;
        for (conversation, wait) in concerned.iter().zip(waits) {
            let after = wait.join().unwrap_or_else(|cause| panic::resume_unwind(cause))?;
            let how = if conversation.protocol == TCP { ": the same connection, at TCP's next attempt" } else { "" };
            screen.observation(Mark::Alive, conversation.words, &format!("alive after {}{how}", ms(after)))?;
        }
        Ok(())
    })
}

impl Conversation {
    fn wait_alive_after(&self, moment: Instant) -> Result<Duration, Failure> {
        Ok(self.stream.wait_alive_after(moment, LIMIT)?)
    }
}

/// How many packets of each conversation reach the server while the client keeps sending after the commit.
fn count_after_cut(stage: &Stage, frames: &FrameSocket, concerned: &[Conversation]) -> Result<Vec<usize>, Failure> {
    // When this returns, all packets that passed before the commit have arrived.
    stage.lab().settle()?;
    frames.drain()?;
    for Conversation { stream, .. } in concerned {
        let sent = stream.stats().sent;
        await_that("a conversation to continue sending", || stream.stats().sent >= sent + MESSAGES)?;
    }
    stage.lab().settle()?;
    let arrived = frames.drain()?;
    let of = |conversation: &Conversation| {
        let is_of = |frame: &&Vec<u8>| source(frame) == Some((conversation.client, conversation.protocol));
        arrived.iter().filter(is_of).count()
    };
    Ok(concerned.iter().map(of).collect())
}

/// Whether a conversation that the change does not affect has a reply to every message.
fn continued(stream: &Stream, screen: &Screen) -> Result<bool, Failure> {
    let complete = || {
        let stats = stream.stats();
        stats.sent == stats.replies
    };
    let whole = await_that("an answer to every message", complete).is_ok();
    let stats = stream.stats();
    let line = format!("another policy's: {} messages, {} answers so far", stats.sent, stats.replies.min(stats.sent));
    screen.observation(if whole { Mark::Alive } else { Mark::Wrong }, "UDP  monitor → backend, IPv4", &line)?;
    Ok(whole)
}

/// Waits for a condition, checking every millisecond.
fn await_that(what: &str, condition: impl Fn() -> bool) -> Result<(), Failure> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > LIMIT {
            return Err(Failure::new(format!("timed out after {} s waiting for {what}", LIMIT.as_secs())));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The source and the protocol of an IP packet in an Ethernet frame.
fn source(frame: &[u8]) -> Option<(IpAddr, u8)> {
    let packet = frame.get(14..)?;
    match packet.first()? >> 4 {
        4 => Some((<[u8; 4]>::try_from(packet.get(12..16)?).ok()?.into(), *packet.get(9)?)),
        6 => Some((<[u8; 16]>::try_from(packet.get(8..24)?).ok()?.into(), *packet.get(6)?)),
        _ => None,
    }
}
