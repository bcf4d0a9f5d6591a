//! One kind of objects, listed and then watched, until the receiver is dropped.
//!
//! Listing: pages are requested and sent on, one by one. Watching: from the version of the list on, again and again,
//! since servers end each watch. A relist follows if the server no longer has the version, if input cannot be read, if
//! watches are refused repeatedly, on request, and periodically as a safeguard. The old version stays valid until the
//! first page of the list arrives.

use std::time::Duration;

use palisade_policy::input::{Change, Kind, NamespacedName, Pool};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, sleep, sleep_until};

use super::chance;
use super::objects::Received;
use super::pace::Pace;
use super::timing::Timing;
use super::trouble::Trouble;
use super::warned::Warned;
use super::wire::{self, Line, Lines, Wire};
use crate::decode::Structure;
use crate::event::{Arrival, Event, ListPart};
use crate::finding::ObjectName;

/// Objects per page: at first, and at most.
const PAGE_FIRST: u32 = 100;
const PAGE_MOST: u32 = 500;

/// The receiver is dropped.
pub(super) struct Closed;

/// The reason for the end of a watch.
enum End {
    /// The server ended it.
    Ended,
    /// A list is due.
    ListDue,
    /// A failure.
    Trouble(Trouble),
}

/// The list-and-watch of one kind.
pub(super) struct Cycle {
    wire: Wire,
    timing: Timing,
    tx: Sender<Arrival>,
    /// Requests for a list.
    wishes: Receiver<()>,
    pace: Pace,
    warned: Warned,
    /// What objects have in common.
    pool: Pool,
    /// The version to watch from.
    version: Option<String>,
    /// Objects per page.
    limit: u32,
    /// The time of the next list if there is no failure.
    relist: Instant,
    /// The number of watches in a row that could not start, and the time of the first.
    refused: Option<(u32, Instant)>,
    /// The server sends no bookmarks.
    mute: bool,
}

impl Cycle {
    pub(super) fn new(wire: Wire, timing: Timing, tx: Sender<Arrival>, wishes: Receiver<()>) -> Self {
        let pace = Pace::new(timing.clone());
        let (warned, relist) = (Warned::default(), Instant::now());
        Self {
            wire,
            timing,
            tx,
            wishes,
            pace,
            warned,
            pool: Pool::default(),
            version: None,
            limit: PAGE_FIRST,
            relist,
            refused: None,
            mute: false,
        }
    }

    /// Lists and watches until the receiver is dropped.
    pub(super) async fn run<S: Structure>(mut self) {
        while self.round::<S>().await.is_ok() {}
    }

    /// One list, or one watch.
    async fn round<S: Structure>(&mut self) -> Result<(), Closed> {
        if let Some(version) = self.version.clone()
            && Instant::now() < self.relist
        {
            return self.watch::<S>(&version).await;
        }
        if self.version.is_none() {
            self.wait_for_list().await;
        }
        match self.list::<S>().await? {
            Ok(()) => Ok(()),
            Err(trouble) => {
                let wait = self.failed(&trouble, "list").await?;
                if self.version.is_some() {
                    // Not urgent: the watch continues.
                    self.relist = Instant::now() + chance::about(self.timing.between_lists, 0.1);
                } else {
                    sleep(wait).await;
                }
                Ok(())
            }
        }
    }

    /// Waits until the server is likely to cope with another list.
    async fn wait_for_list(&mut self) {
        let mut due = self.pace.list_due();
        while Instant::now() < due {
            tokio::select! {
                () = sleep_until(due) => {}
                Some(()) = self.wishes.recv() => due = due.min(self.pace.wish()),
            }
        }
    }

    /// Reads a list, page by page.
    async fn list<S: Structure>(&mut self) -> Result<Result<(), Trouble>, Closed> {
        let kind = self.wire.kind;
        // This list answers all requests so far.
        while self.wishes.try_recv().is_ok() {}
        self.wire.contact.begin_list(kind);
        let mut begun = false;
        let result = self.pages::<S>(&mut begun).await?;
        self.wire.contact.end_list(kind, result.is_ok());
        if result.is_ok() {
            self.wire.contact.succeed(kind);
            self.relist = Instant::now() + chance::about(self.timing.relist, 0.1);
            self.refused = None;
            self.mute = false;
        } else if begun {
            self.send(Event::List(ListPart::Abandoned(kind))).await?;
        }
        Ok(result)
    }

    async fn pages<S: Structure>(&mut self, begun: &mut bool) -> Result<Result<(), Trouble>, Closed> {
        let kind = self.wire.kind;
        let mut next: Option<String> = None;
        loop {
            let page = match self.wire.page::<S>(self.limit, next.as_deref()).await {
                Ok(page) => page,
                Err(trouble) => {
                    if matches!(trouble, Trouble::Late(_)) {
                        self.limit = (self.limit / 2).max(1);
                    }
                    return Ok(Err(trouble));
                }
            };
            self.fit_limit(page.bytes);
            if !std::mem::replace(begun, true) {
                self.pace.list_begins(self.version.is_none());
                self.warned.list_begins();
                self.send(Event::List(ListPart::Begin(kind))).await?;
            }
            let mut objects = Vec::with_capacity(page.objects.len());
            let mut warnings = Vec::new();
            for Received { mut object, warnings: of_object } in page.objects {
                self.pool.share(&mut object);
                warnings.extend(self.warned.warn_listed(&ObjectName::of(&object), &of_object));
                objects.push(object);
            }
            if !objects.is_empty() {
                let event = Event::List(ListPart::Page(objects));
                self.send_at(page.at, event).await?;
            }
            for warning in warnings {
                self.send(warning).await?;
            }
            if page.next.is_some() && page.next == next {
                return Ok(Err(Trouble::Malformed("a list whose continue token does not change".to_owned())));
            }
            next = page.next;
            if next.is_none() {
                self.warned.list_ends();
                self.version = Some(page.version);
                self.send_at(page.at, Event::List(ListPart::End(kind))).await?;
                return Ok(Ok(()));
            }
        }
    }

    /// Requests fewer objects per page if they are large, and more if they are small.
    fn fit_limit(&mut self, bytes: usize) {
        if bytes > self.timing.page_bytes {
            self.limit = (self.limit / 2).max(1);
        } else if bytes < self.timing.page_bytes / 4 {
            self.limit = self.limit.saturating_mul(2).min(PAGE_MOST);
        }
    }

    /// Watches once, and waits if the watch failed.
    async fn watch<S: Structure>(&mut self, version: &str) -> Result<(), Closed> {
        let length = if self.mute { self.timing.short_watch } else { self.timing.watch };
        let begin = Instant::now();
        let trouble = match self.wire.watch::<S>(version, chance::about(length, 0.2)).await {
            Ok(lines) => {
                self.wire.contact.succeed(self.wire.kind);
                self.pace.watched();
                let end = self.follow::<S>(lines).await?;
                if begin.elapsed() >= self.timing.brief {
                    self.refused = None;
                }
                match end {
                    End::ListDue => return Ok(()),
                    End::Ended if begin.elapsed() >= self.timing.brief => return Ok(()),
                    End::Ended => Trouble::Brief(begin.elapsed()),
                    End::Trouble(Trouble::Silent(_)) if !self.mute => {
                        // This kind may have no events; the ends of short watches are signs of life.
                        self.mute = true;
                        return Ok(());
                    }
                    End::Trouble(trouble) => trouble,
                }
            }
            Err(trouble) => trouble,
        };
        if trouble.is_final() || self.is_refused_for_good(&trouble) {
            self.version = None;
        }
        let wait = self.failed(&trouble, "watch").await?;
        sleep(wait).await;
        Ok(())
    }

    /// Counts a failure of a watch. Returns whether only a list can help after so many.
    fn is_refused_for_good(&mut self, trouble: &Trouble) -> bool {
        let (count, since) = self.refused.unwrap_or((0, Instant::now()));
        let count = count.saturating_add(u32::from(trouble.is_refusal()));
        self.refused = Some((count, since));
        count >= self.timing.refusals || since.elapsed() >= self.timing.healthy
    }

    /// Sends the events of a watch, until it ends.
    async fn follow<S: Structure>(&mut self, mut lines: Lines) -> Result<End, Closed> {
        loop {
            let line = tokio::select! {
                line = lines.next(self.timing.silence) => line,
                Some(()) = self.wishes.recv() => {
                    self.relist = self.relist.min(self.pace.wish());
                    continue;
                }
                () = sleep_until(self.relist) => return Ok(End::ListDue),
            };
            self.pace.watched();
            let (line, at) = match line {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(End::Ended),
                Err(trouble) => return Ok(End::Trouble(trouble)),
            };
            let (line, version) = match wire::read::<S>(&line) {
                Ok(read) => read,
                Err(trouble) => return Ok(End::Trouble(trouble)),
            };
            self.refused = None;
            match line {
                Line::Nothing => {}
                Line::Applied(Received { mut object, warnings }) => {
                    self.pool.share(&mut object);
                    let warning = self.warned.warn(&ObjectName::of(&object), &warnings);
                    self.send_at(at, Event::Changes(vec![Change::from(object)])).await?;
                    if let Some(warning) = warning {
                        self.send_at(at, warning).await?;
                    }
                }
                Line::Gone(Received { object, .. }) => {
                    let name = ObjectName::of(&object);
                    self.warned.forget(&name);
                    self.send_at(at, Event::Changes(vec![gone(name)])).await?;
                }
            }
            self.version = Some(version);
        }
    }

    /// Reports a failure. Returns the time to wait after it.
    async fn failed(&mut self, trouble: &Trouble, verb: &'static str) -> Result<Duration, Closed> {
        let failure = trouble.failure(self.wire.kind, verb);
        self.wire.contact.fail(self.wire.kind, &failure.message);
        let wait = self.pace.failed();
        // A server also ends its watches early when it shuts down in good order.
        if !matches!(trouble, Trouble::Brief(_)) || self.pace.failures() >= self.timing.refusals {
            self.send(Event::Failed(failure)).await?;
        }
        Ok(wait)
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.tx.send(Arrival::now(event)).await.map_err(|_closed| Closed)
    }

    async fn send_at(&self, at: std::time::Instant, event: Event) -> Result<(), Closed> {
        self.tx.send(Arrival { at, event }).await.map_err(|_closed| Closed)
    }
}

fn gone(name: ObjectName) -> Change {
    let key = |name: ObjectName| NamespacedName::new(name.namespace.unwrap_or_default(), name.name);
    match name.kind {
        Kind::Pod => Change::PodGone(key(name)),
        Kind::Namespace => Change::NamespaceGone(name.name),
        Kind::NetworkPolicy => Change::PolicyGone(key(name)),
    }
}
