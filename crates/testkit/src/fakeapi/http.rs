//! The part of HTTP/1.1 that clients of an API server use.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

/// The longest line of a head, and the largest body.
const LONGEST_LINE: u64 = 64 << 10;
const LARGEST_BODY: usize = 16 << 20;

/// A request.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// Reads the next request of a connection; none at its end.
pub(super) fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Message>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::Error::other("no request line"));
    };
    let mut length = 0;
    loop {
        let header = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    if length > LARGEST_BODY {
        return Err(io::Error::other("the body is too large"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // The parameters that are read need no decoding: versions, limits, our own tokens, DNS names.
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Ok(Some(Message { method: method.to_owned(), path: path.to_owned(), query, body }))
}

fn line(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(line).map_err(io::Error::other)?;
    Ok(Some(text.trim_end().to_owned()))
}

/// The head of an answer in one piece.
pub(super) fn head(status: u16, length: usize) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
}

/// The head of an answer in chunks.
pub(super) const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Sends an answer in one piece.
pub(super) fn send(mut stream: &TcpStream, status: u16, body: &[u8]) -> io::Result<()> {
    stream.write_all(&[head(status, body.len()).as_bytes(), body].concat())
}

/// Sends a chunk; the last one is empty.
pub(super) fn send_chunk(mut stream: &TcpStream, body: &[u8]) -> io::Result<()> {
    stream.write_all(&[format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat())
}

/// A `Status`, the answer of API servers to a failed request.
pub(super) fn status(code: u16, message: &str) -> serde_json::Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}
