//! Requests for lists and watches, each with a deadline; reads the responses while they arrive.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status, WatchEvent};
use palisade_policy::input::Kind;
use serde::Deserialize;
use tokio::time::timeout;

use super::objects::{Received, url};
use super::split::Splitter;
use super::trouble::Trouble;
use crate::contact::Contact;
use crate::decode::Structure;

/// The longest line of a watch that is accepted.
const LONGEST: usize = 32 << 20;

/// A page of a list.
pub(super) struct Page {
    pub(super) objects: Vec<Received>,
    /// The version of the list.
    pub(super) version: String,
    /// The token of the next page, unless this was the last.
    pub(super) next: Option<String>,
    /// Its size in bytes.
    pub(super) bytes: usize,
    /// The time of its arrival.
    pub(super) at: Instant,
}

#[derive(Deserialize)]
struct Envelope {
    metadata: ListMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

/// Sends a server requests for objects of one kind.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) kind: Kind,
    pub(super) contact: Contact,
    /// The deadline of an answer.
    pub(super) patience: Duration,
}

impl Wire {
    /// Reads a page of a list: the first, or the one that the previous page named.
    pub(super) async fn page<S: Structure>(&self, limit: u32, next: Option<&str>) -> Result<Page, Trouble> {
        let page = timeout(self.patience, self.page_without_deadline::<S>(limit, next)).await;
        page.unwrap_or(Err(Trouble::Late(self.patience)))
    }

    async fn page_without_deadline<S: Structure>(&self, limit: u32, next: Option<&str>) -> Result<Page, Trouble> {
        let parameters =
            ListParams { limit: Some(limit), continue_token: next.map(str::to_owned), ..ListParams::default() };
        let request = Request::new(url(S::KIND, None)).list(&parameters).map_err(kube::Error::BuildRequest)?;
        let mut body = Box::pin(self.client.request_stream(request).await?);
        self.contact.hear(self.kind);
        let mut splitter = Splitter::default();
        let mut objects = Vec::new();
        let mut bytes = 0_usize;
        loop {
            let chunk = body.fill_buf().await?;
            if chunk.is_empty() {
                break;
            }
            let read = |text: &[u8]| {
                let Some((object, length)) = first::<S>(text)? else { return Ok(None) };
                // An object without a name is ignored; no server has one.
                objects.extend(Received::read(object));
                Ok(Some(length))
            };
            splitter.push(chunk, read).map_err(Trouble::Malformed)?;
            let taken = chunk.len();
            bytes = bytes.saturating_add(taken);
            body.as_mut().consume(taken);
        }
        let at = Instant::now();
        self.contact.hear(self.kind);
        let envelope = splitter.finish().map_err(Trouble::Malformed)?;
        let read = serde_json::from_slice::<Envelope>(&envelope);
        let ListMeta { resource_version: version, next } =
            read.map_err(|error| Trouble::Malformed(error.to_string()))?.metadata;
        if version.is_empty() {
            return Err(Trouble::Malformed("a list without a version".to_owned()));
        }
        Ok(Page { objects, version, next: Some(next).filter(|next| !next.is_empty()), bytes, at })
    }

    /// Starts a watch after `version`, and asks the server to end it after `length`.
    pub(super) async fn watch<S: Structure>(&self, version: &str, length: Duration) -> Result<Lines, Trouble> {
        let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX).max(1);
        let parameters = WatchParams::default().timeout(seconds);
        let request = Request::new(url(S::KIND, None)).watch(&parameters, version);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let head = timeout(self.patience, self.client.request_stream(request)).await;
        let body = head.map_err(|_late| Trouble::Late(self.patience))??;
        self.contact.hear(self.kind);
        let (kind, contact) = (self.kind, self.contact.clone());
        Ok(Lines { body: Box::pin(body), line: Vec::new(), kind, contact })
    }
}

/// The object at the start of a text, and its length; none if it has no end there.
fn first<S: Structure>(text: &[u8]) -> Result<Option<(S, usize)>, String> {
    let mut objects = serde_json::Deserializer::from_slice(text).into_iter::<S>();
    match objects.next() {
        Some(Ok(object)) => Ok(Some((object, objects.byte_offset()))),
        Some(Err(error)) if !error.is_eof() => Err(error.to_string()),
        Some(Err(_)) | None => Ok(None),
    }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    /// The start of the next line.
    line: Vec<u8>,
    kind: Kind,
    contact: Contact,
}

impl Lines {
    /// The next line, and the time of its arrival; none at the end. Cancellation loses nothing.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<Option<(Vec<u8>, Instant)>, Trouble> {
        loop {
            let chunk = timeout(silence, self.body.fill_buf()).await;
            let chunk = chunk.map_err(|_silent| Trouble::Silent(silence))??;
            self.contact.hear(self.kind);
            if chunk.is_empty() {
                // A line that is cut off is sent again when the watch is resumed.
                return Ok(None);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end.saturating_add(1));
            self.line.extend_from_slice(chunk.get(..taken).unwrap_or(chunk));
            self.body.as_mut().consume(taken);
            if self.line.len() > LONGEST {
                return Err(Trouble::Malformed(format!("a line of more than {LONGEST} bytes")));
            }
            if end.is_some() && !self.line.trim_ascii().is_empty() {
                return Ok(Some((std::mem::take(&mut self.line), Instant::now())));
            }
        }
    }
}

/// The content of a line of a watch.
pub(super) enum Line {
    /// An object was added or changed.
    Applied(Received),
    /// An object is gone.
    Gone(Received),
    /// Only a sign of life, or an object without a name.
    Nothing,
}

/// Reads a line, and the version after it.
pub(super) fn read<S: Structure>(line: &[u8]) -> Result<(Line, String), Trouble> {
    let event = match serde_json::from_slice::<WatchEvent<S>>(line) {
        Ok(event) => event,
        Err(error) => match serde_json::from_slice::<Status>(line) {
            Ok(status) if status.is_failure() => return Err(Box::new(status).into()),
            _ => return Err(Trouble::Malformed(error.to_string())),
        },
    };
    let (object, gone) = match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
        WatchEvent::Deleted(object) => (object, true),
        WatchEvent::Bookmark(bookmark) => return Ok((Line::Nothing, bookmark.metadata.resource_version)),
        WatchEvent::Error(status) => return Err(status.into()),
    };
    let version = object.version().to_owned();
    if version.is_empty() {
        return Err(Trouble::Malformed("an object without a version".to_owned()));
    }
    let line = match Received::read(object) {
        Some(received) if gone => Line::Gone(received),
        Some(received) => Line::Applied(received),
        None => Line::Nothing,
    };
    Ok((line, version))
}
