//! Watches.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Shared;
use super::connection::{dribble, hang};
use super::fault::Answer;
use super::http::{CHUNKED, Message, send, send_chunk, status};
use super::request::Resource;

/// The length of a watch without a requested one.
const LONGEST: u64 = 1800;

/// The most bytes in one piece, unless one line is longer.
const CHUNK: usize = 256 << 10;

/// How often an idle watch checks whether its client is still there.
const LOOK: Duration = Duration::from_millis(500);

/// The next action of a watch.
enum Next {
    Lines(Vec<u8>),
    Bookmark(u64),
    Expired,
    End,
}

/// A watch that has begun.
struct Watch {
    resource: Resource,
    since: u64,
    epoch: u64,
    end: Instant,
    bookmarks: bool,
    /// The time of the last line.
    spoke: Instant,
}

/// Sends events until the watch ends.
pub(super) fn serve(
    shared: &Shared,
    mut stream: &TcpStream,
    message: &Message,
    resource: Resource,
    answer: &Answer,
) -> io::Result<()> {
    let number = |key: &str| message.query.get(key).and_then(|value| value.parse::<u64>().ok());
    let (version, floor, epoch) = {
        let mut state = shared.state();
        let version = state.version;
        let objects = state.of(resource);
        (version, objects.floor, objects.epoch)
    };
    let since = number("resourceVersion").filter(|&version| version > 0).unwrap_or(version);
    if since > version {
        return send(stream, 504, too_large(since, version).to_string().as_bytes());
    }
    stream.write_all(CHUNKED.as_bytes())?;
    if *answer == Answer::HangInside {
        return hang(stream);
    }
    if *answer == Answer::Expired || since < floor {
        return expire(stream);
    }
    let watch = Watch {
        resource,
        since,
        epoch,
        end: Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(LONGEST)),
        bookmarks: message.query.get("allowWatchBookmarks").is_some_and(|value| value == "true"),
        spoke: Instant::now(),
    };
    shared.change(|state| *state.watches.entry(resource).or_default() += 1);
    let ended = watch.run(shared, stream, answer);
    shared.change(|state| *state.watches.entry(resource).or_default() -= 1);
    ended
}

impl Watch {
    fn run(mut self, shared: &Shared, mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
        loop {
            let next = self.next(shared, stream)?;
            self.spoke = Instant::now();
            match next {
                Next::Lines(lines) => match *answer {
                    Answer::Dribble(pause) => {
                        let chunk = [format!("{:x}\r\n", lines.len()).as_bytes(), &lines, b"\r\n"].concat();
                        dribble(shared, stream, &chunk, pause)?;
                    }
                    _ => send_chunk(stream, &lines)?,
                },
                Next::Bookmark(version) => {
                    let (kind, api) = (self.resource.kind(), self.resource.version());
                    let metadata = json!({ "resourceVersion": version.to_string() });
                    let object = json!({ "kind": kind, "apiVersion": api, "metadata": metadata });
                    send_chunk(stream, format!("{}\n", json!({ "type": "BOOKMARK", "object": object })).as_bytes())?;
                }
                Next::Expired => return expire(stream),
                Next::End => return stream.write_all(b"0\r\n\r\n"),
            }
        }
    }

    /// Waits for the next action.
    fn next(&mut self, shared: &Shared, stream: &TcpStream) -> io::Result<Next> {
        let mut state = shared.state();
        loop {
            if state.ending {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if !state.faults.is_silent(self.resource) {
                if state.of(self.resource).epoch != self.epoch {
                    return Ok(Next::Expired);
                }
                if let Some((lines, last)) = state.lines(self.resource, self.since, CHUNK) {
                    self.since = last;
                    return Ok(Next::Lines(lines));
                }
                if Instant::now() >= self.end {
                    return Ok(Next::End);
                }
                let due = state.faults.bookmarks.filter(|_| self.bookmarks).map(|every| self.spoke + every);
                if due.is_some_and(|due| Instant::now() >= due) {
                    self.since = state.version;
                    return Ok(Next::Bookmark(state.version));
                }
            }
            state = shared.wait(state, LOOK);
            if is_closed(stream) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
}

/// Whether the client has closed the connection. It sends nothing while it watches.
fn is_closed(stream: &TcpStream) -> bool {
    let mut ignored = [0];
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut ignored));
    let restored = stream.set_nonblocking(false);
    match looked {
        Ok(read) => read == 0 || restored.is_err(),
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn expire(mut stream: &TcpStream) -> io::Result<()> {
    let line = json!({ "type": "ERROR", "object": status(410, "too old resource version") });
    send_chunk(stream, format!("{line}\n").as_bytes())?;
    stream.write_all(b"0\r\n\r\n")
}

/// The response to a version that the server has not reached, as after a restore.
fn too_large(asked: u64, present: u64) -> serde_json::Value {
    let mut status = status(504, &format!("Timeout: Too large resource version: {asked}, current: {present}"));
    if let Some(status) = status.as_object_mut() {
        let causes = json!([{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }]);
        status.insert("details".to_owned(), json!({ "causes": causes, "retryAfterSeconds": 1 }));
    }
    status
}
