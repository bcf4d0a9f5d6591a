//! A Kubernetes API server that misbehaves on request.
//!
//! It lists and watches pods, namespaces, network policies and nodes, answers GETs of them and records Events, over
//! plain HTTP on loopback. Objects are any JSON that a test provides; every change makes a watch event. Faults are
//! switched per verb and resource while it runs ([`FakeApi::answer`], [`FakeApi::show`], [`FakeApi::silence`], …), and
//! every request is counted with its time. A list of 100,000 pods takes it well under a second.
//!
//! Not implemented: selectors, consistent reads from the past, streamed lists, writes other than Events. Items of its
//! lists carry `kind` and `apiVersion`, which a real server omits.

mod connection;
mod fault;
mod http;
mod objects;
mod request;
mod store;
mod watch;

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use fault::{Answer, Shown};
pub use objects::{deny, ending, namespace, node, pod, policy, policy_with};
pub use request::{Resource, Seen, Verb};
pub use store::Backup;
use store::State;

/// How long connections may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection's thread needs little stack.
const STACK: usize = 256 << 10;

/// Opens the listening socket where the server should be reachable: for instance inside a network namespace.
type Bind = dyn Fn(SocketAddr) -> io::Result<TcpListener> + Send + Sync;

/// The server. Dropping it closes its connections and ends its threads.
pub struct FakeApi {
    shared: Arc<Shared>,
    bind: Box<Bind>,
    address: SocketAddr,
    door: Mutex<Option<Door>>,
}

/// The listening socket and the thread that accepts.
struct Door {
    /// The listening socket again. Linux lets `shutdown` wake the thread that accepts.
    handle: TcpStream,
    thread: JoinHandle<()>,
}

/// What the threads of all connections share.
struct Shared {
    state: Mutex<State>,
    /// Something changed: objects, faults, connections.
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere leaves whole values behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes every thread that waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// Waits for a change, at most this long.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl FakeApi {
    /// A server without objects on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// The socket or the thread cannot be created.
    pub fn start() -> io::Result<Self> {
        Self::start_where(TcpListener::bind)
    }

    /// A server whose sockets `bind` opens: it is called with 127.0.0.1 and port 0 first, and later, when connections
    /// are accepted again after [`FakeApi::refuse_connections`], with the resulting address.
    ///
    /// # Errors
    /// The socket or the thread cannot be created.
    pub fn start_where(
        bind: impl Fn(SocketAddr) -> io::Result<TcpListener> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state: Mutex::new(State::new()), changed: Condvar::new() });
        let door = Door::open(&shared, listener)?;
        Ok(Self { shared, bind: Box::new(bind), address, door: Mutex::new(Some(door)) })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig that leads here.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> io::Result<()> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{ "name": "fake", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "fake", "user": {} }],
            "contexts": [{ "name": "fake", "context": { "cluster": "fake", "user": "fake" } }],
        });
        std::fs::write(path, config.to_string())
    }

    /// Adds or changes an object, by namespace and name, and sends it to watches. The server sets version and uid.
    pub fn put(&self, object: Value) {
        self.shared.change(|state| state.put(object, true));
    }

    /// Adds or changes objects and deletes others at once: watches get all of it in one piece, in this order.
    pub fn put_at_once(&self, objects: impl IntoIterator<Item = Value>, gone: &[(Resource, &str, &str)]) {
        self.shared.change(|state| {
            objects.into_iter().for_each(|object| state.put(object, true));
            for &(resource, namespace, name) in gone {
                state.delete(resource, namespace, name);
            }
        });
    }

    /// Adds or changes objects without telling watches: only lists have them. Watches that begin from an older version
    /// are rejected as expired. Use this to fill a server before a client watches it.
    pub fn load(&self, objects: impl IntoIterator<Item = Value>) {
        self.shared.change(|state| objects.into_iter().for_each(|object| state.put(object, false)));
    }

    /// Deletes an object, and tells watches. Returns whether it existed.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.shared.change(|state| state.delete(resource, namespace, name))
    }

    /// The number of objects of this kind.
    pub fn len(&self, resource: Resource) -> usize {
        self.shared.state().len(resource)
    }

    /// Whether there are no objects of this kind.
    pub fn is_empty(&self, resource: Resource) -> bool {
        self.len(resource) == 0
    }

    /// The content of etcd now: objects and version.
    pub fn backup(&self) -> Backup {
        self.shared.state().backup()
    }

    /// Restores a backup, like a restore of etcd: versions count from there again, and all connections are closed.
    pub fn restore(&self, backup: &Backup) {
        self.shared.change(|state| state.restore(backup));
        self.cut_connections();
    }

    /// Increments the version without a change, as writes to other kinds of objects do.
    pub fn advance(&self, versions: u64) {
        self.shared.change(|state| state.version += versions);
    }

    /// Sets the answer to requests of this kind from now on. One that already hangs keeps hanging.
    pub fn answer(&self, verb: Verb, resource: Resource, answer: Answer) {
        self.shared.change(|state| state.faults.set(verb, resource, answer));
    }

    /// Sets the answer to every request from now on.
    pub fn answer_all(&self, answer: &Answer) {
        self.shared.change(|state| state.faults.set_all(answer));
    }

    /// Sets the content of lists of this kind from now on. Watches and GETs stay correct.
    pub fn show(&self, resource: Resource, shown: Shown) {
        self.shared.change(|state| state.faults.shown.insert(resource, shown));
    }

    /// Sets the content of the next lists of this kind, one each; later ones contain what [`FakeApi::show`] says.
    pub fn show_next(&self, resource: Resource, shown: impl IntoIterator<Item = Shown>) {
        self.shared.change(|state| state.faults.upcoming.entry(resource).or_default().extend(shown));
    }

    /// Makes watches of this kind, open ones too, send nothing: no event, no bookmark, no end. Events of that time
    /// follow afterwards, unless they have [expired](FakeApi::expire).
    pub fn silence(&self, resource: Resource, silent: bool) {
        self.shared.change(|state| state.faults.silence(resource, silent));
    }

    /// Sets the interval of bookmarks for watches that ask for them; `None` is never. Initially every half minute.
    pub fn bookmarks(&self, every: Option<Duration>) {
        self.shared.change(|state| state.faults.bookmarks = every);
    }

    /// Makes lists come in one page, whatever the requested limit.
    pub fn ignore_limits(&self, ignore: bool) {
        self.shared.change(|state| state.faults.unlimited = ignore);
    }

    /// Compacts the history of a kind: every open watch ends with 410, and so does one from an older version.
    pub fn expire(&self, resource: Resource) {
        self.shared.change(|state| state.expire(resource));
    }

    /// Cuts the line of the next event of this kind in half, as a broken proxy does.
    pub fn mangle_next(&self, resource: Resource) {
        self.shared.change(|state| state.faults.mangle.insert(resource));
    }

    /// Stops listening: connections are refused. Open ones stay.
    pub fn refuse_connections(&self) {
        self.shut();
    }

    /// Listens again.
    ///
    /// # Errors
    /// The address is taken.
    pub fn accept_connections(&self) -> io::Result<()> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if door.is_none() {
            *door = Some(Door::open(&self.shared, (self.bind)(self.address)?)?);
        }
        Ok(())
    }

    /// Closes every open connection.
    pub fn cut_connections(&self) {
        for stream in self.shared.state().connections.values() {
            // The peer may have closed it already.
            stream.shutdown(Shutdown::Both).ok();
        }
        self.shared.changed.notify_all();
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// The number of open watches of this kind.
    pub fn watches(&self, resource: Resource) -> usize {
        self.shared.state().watches.get(&resource).copied().unwrap_or(0)
    }

    /// The number of requests of this kind.
    pub fn count(&self, verb: Verb, resource: Resource) -> usize {
        self.shared.state().seen.iter().filter(|seen| seen.is(verb, resource)).count()
    }

    /// The number of requests of this kind since a moment.
    pub fn count_since(&self, moment: Instant, verb: Verb, resource: Resource) -> usize {
        let state = self.shared.state();
        state.seen.iter().rev().take_while(|seen| seen.at >= moment).filter(|seen| seen.is(verb, resource)).count()
    }

    /// When the last page of a list had been sent.
    pub fn listed(&self) -> Option<Instant> {
        self.shared.state().listed
    }

    /// Every request, in order.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// The Events that were written.
    pub fn events(&self) -> Vec<Value> {
        self.shared.state().events.clone()
    }

    fn shut(&self) {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Door { handle, thread }) = door {
            handle.shutdown(Shutdown::Both).ok();
            drop(handle);
            thread.join().ok();
        }
    }
}

impl Door {
    fn open(shared: &Arc<Shared>, listener: TcpListener) -> io::Result<Self> {
        let handle = TcpStream::from(OwnedFd::from(listener.try_clone()?));
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name("fakeapi".into()).spawn(move || {
            // Ends when the socket is shut down.
            while let Ok((stream, _)) = listener.accept() {
                let thread = thread::Builder::new().name("fakeapi-connection".into()).stack_size(STACK);
                let shared = Arc::clone(&shared);
                // Without a thread for it the connection is closed, which a client must tolerate anyway.
                thread.spawn(move || connection::serve(&shared, &stream)).ok();
            }
        })?;
        Ok(Self { handle, thread })
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.shut();
        self.shared.change(|state| state.ending = true);
        let end = Instant::now() + FAREWELL;
        let mut state = self.shared.state();
        while !state.connections.is_empty() && Instant::now() < end {
            for stream in state.connections.values() {
                stream.shutdown(Shutdown::Both).ok();
            }
            state = self.shared.wait(state, Duration::from_millis(20));
        }
    }
}

impl std::fmt::Debug for FakeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeApi").field("address", &self.address).finish_non_exhaustive()
    }
}
