//! One connection: requests in, answers out, with the faults.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Shared;
use super::fault::Answer;
use super::http::{self, Message, head, send, status};
use super::request::{Seen, Target, Verb};
use super::watch;

/// Answers requests until the connection ends.
pub(super) fn serve(shared: &Shared, stream: &TcpStream) {
    let Ok(copy) = stream.try_clone() else { return };
    let number = shared.change(|state| {
        let number = state.number();
        state.connections.insert(number, copy);
        number
    });
    if !shared.state().ending {
        // However it ends, the peer sees a closed connection.
        talk(shared, stream).ok();
    }
    stream.shutdown(Shutdown::Both).ok();
    shared.change(|state| state.connections.remove(&number));
}

fn talk(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(message) = http::read(&mut reader)? {
        let Some(target) = Target::of(&message) else {
            refuse(stream, 404, "the server could not find the requested resource")?;
            continue;
        };
        let answer = shared.change(|state| {
            let Target { verb, resource, .. } = target;
            state.seen.push(Seen { at: Instant::now(), verb, resource, name: target.name.clone() });
            state.faults.answer(verb, resource)
        });
        respond(shared, stream, &message, &target, &answer)?;
        if matches!(target.verb, Verb::List | Verb::Page) {
            shared.state().listed = Some(Instant::now());
        }
    }
    Ok(())
}

fn respond(shared: &Shared, stream: &TcpStream, message: &Message, target: &Target, answer: &Answer) -> io::Result<()> {
    match *answer {
        Answer::Right | Answer::HangInside | Answer::Dribble(_) | Answer::Expired if target.verb == Verb::Watch => {
            watch::serve(shared, stream, message, target.resource, answer)
        }
        Answer::Right => {
            let (code, body) = body(shared, message, target);
            send(stream, code, &body)
        }
        Answer::Hang => hang(stream),
        Answer::HangInside => {
            let (code, body) = body(shared, message, target);
            let half = body.get(..body.len() / 2).unwrap_or_default();
            (&*stream).write_all(&[head(code, body.len()).as_bytes(), half].concat())?;
            hang(stream)
        }
        Answer::Status(code) => refuse(stream, code, "this is how it was to be answered"),
        Answer::Expired => refuse(stream, 410, "the provided continue parameter is too old"),
        Answer::Close => Err(io::ErrorKind::ConnectionReset.into()),
        Answer::Garbage => send(stream, 200, b"<html>welcome to the proxy</html>"),
        Answer::Dribble(pause) => {
            let (code, body) = body(shared, message, target);
            dribble(shared, stream, &[head(code, body.len()).as_bytes(), &body].concat(), pause)
        }
    }
}

/// Waits until the peer closes the connection, or the server ends.
pub(super) fn hang(mut stream: &TcpStream) -> io::Result<()> {
    let mut ignored = [0; 512];
    while stream.read(&mut ignored)? > 0 {}
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Sends bytes one by one.
pub(super) fn dribble(shared: &Shared, mut stream: &TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte])?;
        let end = Instant::now() + pause;
        let mut state = shared.state();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if state.ending {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            state = shared.wait(state, left);
        }
    }
    Ok(())
}

fn refuse(stream: &TcpStream, code: u16, message: &str) -> io::Result<()> {
    send(stream, code, status(code, message).to_string().as_bytes())
}

/// The correct answer to a request other than a watch.
fn body(shared: &Shared, message: &Message, target: &Target) -> (u16, Vec<u8>) {
    let failed = |code: u16, message: &str| (code, status(code, message).to_string().into_bytes());
    match target.verb {
        Verb::Create => {
            let object: Value = serde_json::from_slice(&message.body).unwrap_or_default();
            shared.change(|state| state.events.push(object));
            (201, message.body.clone())
        }
        Verb::Get => match shared.state().get(target.resource, &target.namespace, &target.name) {
            Some(object) => (200, object.to_vec()),
            None => failed(404, &format!("{} \"{}\" not found", target.resource.name(), target.name)),
        },
        Verb::List | Verb::Page | Verb::Watch => {
            page(shared, message, target).unwrap_or_else(|| failed(410, "the provided continue parameter is too old"))
        }
    }
}

/// A page of a list; none if its token has expired.
fn page(shared: &Shared, message: &Message, target: &Target) -> Option<(u16, Vec<u8>)> {
    let mut state = shared.state();
    let (number, start, snapshot) = if let Some(token) = message.query.get("continue") {
        // A token is the number of a list and the position in it.
        let (number, start) = token.split_once('-')?;
        let number = number.parse().ok()?;
        (number, start.parse::<usize>().ok()?, state.snapshot(number)?)
    } else {
        let (number, snapshot) = state.list(target.resource, &target.namespace);
        (number, 0, snapshot)
    };
    let limit = message.query.get("limit").and_then(|limit| limit.parse().ok()).filter(|&limit| limit > 0);
    let limit = limit.filter(|_| !state.faults.unlimited).unwrap_or(usize::MAX);
    // The copy may be large; other connections do not wait for it.
    drop(state);
    let items = snapshot.items.get(start..).unwrap_or_default();
    let shown = items.get(..limit).unwrap_or(items);
    let mut metadata = json!({ "resourceVersion": snapshot.version.to_string() });
    if shown.len() < items.len() {
        metadata = json!({
            "resourceVersion": snapshot.version.to_string(),
            "continue": format!("{number}-{}", start + shown.len()),
            "remainingItemCount": items.len() - shown.len(),
        });
    }
    let (kind, version) = (target.resource.kind(), target.resource.version());
    let head = format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[");
    let mut body = Vec::with_capacity(head.len() + shown.iter().map(|item| item.len() + 1).sum::<usize>() + 2);
    body.extend_from_slice(head.as_bytes());
    for (position, item) in shown.iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(b"]}");
    Some((200, body))
}
