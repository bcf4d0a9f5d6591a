//! Seen to fail when: the newest connection is closed instead of the oldest; every scrape asks the loop; a request's
//! head has no deadline.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connections::{HEAD_TIME, MOST};
use super::*;
use crate::agent::health::Health;
use crate::agent::metrics::Metrics;
use crate::agent::status::Status;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A server on its own thread, as in the agent.
struct Bed {
    address: SocketAddr,
    connections: Connections,
    /// The number of times that the loop was asked for counters.
    refreshes: Arc<AtomicUsize>,
}

impl Bed {
    fn start() -> Self {
        let (to_loop, mut asked) = mpsc::channel::<Refresh>(1);
        let answers = Answers::new(Status::new(Health::new()), Metrics::new().1, to_loop);
        let (connections, refreshes) = (Connections::default(), Arc::new(AtomicUsize::new(0)));
        let (served, counted) = (connections.clone(), Arc::clone(&refreshes));
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(async move {
                    while let Some(done) = asked.recv().await {
                        counted.fetch_add(1, Ordering::Relaxed);
                        done.send(()).ok();
                    }
                });
                let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                serve(&listener, &answers, &served).await;
            });
        });
        Self { address: receiver.recv().unwrap(), connections, refreshes }
    }

    /// The first line and the body of the answer to this head of a request.
    fn ask(&self, head: &str) -> (String, String) {
        // On a busy machine, the maximum number of other clients can connect before a client has written its request;
        // the client, which is then the oldest silent one, asks again.
        (0..3).find_map(|_| self.ask_once(head)).unwrap_or_else(|| panic!("no answer to {head}"))
    }

    fn ask_once(&self, head: &str) -> Option<(String, String)> {
        let mut stream = self.connect();
        // Fails if the connection was closed meanwhile; reading then fails too.
        stream.write_all(format!("{head}\r\nHost: agent\r\n\r\n").as_bytes()).ok();
        let mut answer = Vec::new();
        // A server that leaves part of a request unread resets the connection after its answer.
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.lines().next().unwrap().to_owned(), body.to_owned()))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }
}

/// Whether the server closes it in time.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn the_unspecified_address_serves_both_families() {
    let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    // A port in use is taken, in either family.
    bind(([0; 16], port).into()).await.unwrap_err();
}

#[tokio::test]
async fn a_taken_port_is_bound_once_it_is_free() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut waiting = Box::pin(bind_with_retry(address));
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    drop(taken);
    let listener = timeout(LIMIT, waiting).await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
}

#[test]
fn each_path_has_its_answer_and_other_requests_are_refused() {
    let bed = Bed::start();
    assert_eq!(bed.ask("GET /livez HTTP/1.1"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    let (head, body) = bed.ask("GET /readyz HTTP/1.1");
    assert!(head.contains(" 503 ") && body.contains("commit: nothing has been committed"), "{head}\n{body}");
    let (head, body) = bed.ask("GET /metrics HTTP/1.1");
    assert!(head.contains(" 200 ") && body.contains("palisade_commits_total"), "{head}\n{body}");
    assert_eq!(bed.ask("HEAD /livez HTTP/1.1"), ("HTTP/1.1 200 OK".to_owned(), String::new()));
    for (request, status) in [
        ("GET / HTTP/1.1", " 404 "),
        ("POST /livez HTTP/1.1", " 405 "),
        ("GET /livez HTTP/1.1\r\nContent-Length: 1000000000", " 413 "),
        ("GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked", " 413 "),
        (&format!("GET /livez HTTP/1.1\r\nX: {}", "x".repeat(64 * 1024)), " 431 "),
    ] {
        let (head, _) = bed.ask(request);
        assert!(head.contains(status), "{}: {head}", &request[..request.len().min(60)]);
    }
}

#[test]
fn silent_connections_do_not_block_a_probe() {
    const FLOOD: usize = 2_000;
    /// File descriptors of this test at a time.
    const OPEN: usize = 500;
    let bed = Bed::start();
    let mut open = VecDeque::new();
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for _ in 0..FLOOD {
                open.push_back(bed.connect());
                if open.len() > OPEN {
                    open.pop_front();
                }
            }
        });
        let mut probes = 0;
        while probes < 20 || !flood.is_finished() {
            assert_eq!(bed.ask("GET /livez HTTP/1.1").1, "ok\n");
            probes += 1;
        }
        flood.join().unwrap();
    });
    assert!(bed.connections.count() <= MOST, "{}", bed.connections.count());
    // At the maximum, a new connection gets in, and the oldest is closed.
    for _ in 0..MOST {
        open.push_back(bed.connect());
    }
    let mut oldest = open.pop_front().unwrap();
    assert_eq!(bed.ask("GET /livez HTTP/1.1").1, "ok\n");
    assert!(is_closed(&mut oldest));
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let bed = Bed::start();
    let start = Instant::now();
    let (mut silent, mut slow) = (bed.connect(), bed.connect());
    slow.write_all(b"GET /livez HT").unwrap();
    assert!(is_closed(&mut silent) && is_closed(&mut slow));
    assert!(start.elapsed() + Duration::from_millis(100) >= HEAD_TIME, "{:?}", start.elapsed());
    while bed.connections.count() > 0 {
        assert!(start.elapsed() < LIMIT, "closed connections are still counted");
        thread::yield_now();
    }
}

#[test]
fn many_scrapes_read_the_counters_once_a_second() {
    let bed = Bed::start();
    let start = Instant::now();
    for _ in 0..200 {
        bed.ask("GET /metrics HTTP/1.1");
    }
    let most = 1 + usize::try_from(start.elapsed().as_secs()).unwrap();
    let asked = bed.refreshes.load(Ordering::Relaxed);
    assert!((1..=most).contains(&asked), "{asked} times in {:?}", start.elapsed());
}
