//! Seen to fail when: the newest connection is closed instead of the oldest; accepting does not yield; a failed bind is
//! not tried again; every scrape asks the loop; the head of a request has all the time in the world.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connections::{HEAD_TIME, MOST};
use super::*;
use crate::agent::metrics::Metrics;
use crate::agent::status::Status;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A server on a thread of its own, as in the agent.
struct Bed {
    address: SocketAddr,
    connections: Connections,
    /// How often the loop was asked for counters.
    refreshes: Arc<AtomicUsize>,
}

impl Bed {
    fn start() -> Self {
        let (to_loop, mut asked) = mpsc::channel::<Refresh>(1);
        let answers = Answers::new(Status::new(), Metrics::new().1, to_loop);
        let (connections, refreshes) = (Connections::default(), Arc::new(AtomicUsize::new(0)));
        let (served, counted) = (connections.clone(), Arc::clone(&refreshes));
        let (tell, told) = std::sync::mpsc::channel();
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
                tell.send(listener.local_addr().unwrap()).unwrap();
                serve(&listener, &answers, &served).await;
            });
        });
        Self { address: told.recv().unwrap(), connections, refreshes }
    }

    /// The first line and the body of the answer to this head of a request.
    async fn ask(&self, head: &str) -> (String, String) {
        let asking = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(format!("{head}\r\nHost: agent\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A server that leaves part of a request unread resets the connection after its answer.
            stream.read_to_end(&mut answer).await.ok();
            String::from_utf8(answer).unwrap()
        };
        let answer = timeout(LIMIT, asking).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    async fn connect(&self) -> TcpStream {
        timeout(LIMIT, TcpStream::connect(self.address)).await.expect("a connection").unwrap()
    }
}

/// Whether the server closes it, in time.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(timeout(LIMIT, stream.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn every_address_is_of_both_families() {
    let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    // A port that somebody has is taken, in whichever family.
    bind(([0; 16], port).into()).await.unwrap_err();
}

#[tokio::test]
async fn a_port_that_is_taken_is_bound_once_it_is_free() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut waiting = Box::pin(bind_at_last(address));
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    drop(taken);
    let listener = timeout(LIMIT, waiting).await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
}

#[tokio::test]
async fn each_path_has_its_answer_and_other_requests_are_refused() {
    let bed = Bed::start();
    assert_eq!(bed.ask("GET /livez HTTP/1.1").await, ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    let (head, body) = bed.ask("GET /readyz HTTP/1.1").await;
    assert!(head.contains(" 503 ") && body.contains("commit: nothing has been committed"), "{head}\n{body}");
    let (head, body) = bed.ask("GET /metrics HTTP/1.1").await;
    assert!(head.contains(" 200 ") && body.contains("palisade_commits_total"), "{head}\n{body}");
    assert_eq!(bed.ask("HEAD /livez HTTP/1.1").await, ("HTTP/1.1 200 OK".to_owned(), String::new()));
    for (request, status) in [
        ("GET / HTTP/1.1", " 404 "),
        ("POST /livez HTTP/1.1", " 405 "),
        ("GET /livez HTTP/1.1\r\nContent-Length: 1000000000", " 413 "),
        ("GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked", " 413 "),
        (&format!("GET /livez HTTP/1.1\r\nX: {}", "x".repeat(64 * 1024)), " 431 "),
    ] {
        let (head, _) = bed.ask(request).await;
        assert!(head.contains(status), "{}: {head}", &request[..request.len().min(60)]);
    }
}

#[tokio::test]
async fn silent_connections_do_not_keep_a_probe_out() {
    const FLOOD: usize = 10_000;
    /// Descriptors of this test at a time.
    const OPEN: usize = 500;
    let bed = Bed::start();
    let flood = async {
        let mut open = std::collections::VecDeque::new();
        for _ in 0..FLOOD {
            open.push_back(bed.connect().await);
            if open.len() > OPEN {
                open.pop_front();
            }
        }
        open
    };
    let probes = async {
        for _ in 0..100 {
            assert_eq!(bed.ask("GET /livez HTTP/1.1").await.1, "ok\n");
        }
    };
    let (mut open, ()) = tokio::join!(flood, probes);
    assert!(bed.connections.count() <= MOST, "{}", bed.connections.count());
    // With as many as there may be, another one gets in, and the oldest has to go.
    for _ in 0..MOST {
        open.push_back(bed.connect().await);
    }
    let mut oldest = open.pop_front().unwrap();
    assert_eq!(bed.ask("GET /livez HTTP/1.1").await.1, "ok\n");
    assert!(is_closed(&mut oldest).await);
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let bed = Bed::start();
    let start = Instant::now();
    let (mut silent, mut slow) = (bed.connect().await, bed.connect().await);
    slow.write_all(b"GET /livez HT").await.unwrap();
    assert!(is_closed(&mut silent).await && is_closed(&mut slow).await);
    assert!(start.elapsed() + Duration::from_millis(100) >= HEAD_TIME, "{:?}", start.elapsed());
    while bed.connections.count() > 0 {
        assert!(start.elapsed() < LIMIT, "closed connections are still counted");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn many_scrapes_read_the_counters_once_a_second() {
    let bed = Bed::start();
    let start = Instant::now();
    for _ in 0..200 {
        bed.ask("GET /metrics HTTP/1.1").await;
    }
    let most = 1 + usize::try_from(start.elapsed().as_secs()).unwrap();
    let asked = bed.refreshes.load(Ordering::Relaxed);
    assert!((1..=most).contains(&asked), "{asked} times in {:?}", start.elapsed());
}
