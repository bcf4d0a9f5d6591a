//! The surroundings of an agent: the reader of its log, the owner of its port, and its HTTP clients.

use std::io::{Read as _, Write as _, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::deny;

use crate::faults::agent::{LISTEN, Setup, within};
use crate::faults::case::{Row, observe};
use crate::faults::scene::{LIMIT, Scene, Traffic, full};

/// The deadline of a change during these faults.
const PROMPT: Duration = Duration::from_secs(5);

fn finish(scene: &Scene, name: &str, fault: &str, traffic: Option<Traffic>, note: String) {
    scene.put_late();
    let in_step = scene.time_to_step(PROMPT);
    let toll = traffic.map(|traffic| traffic.stop(scene));
    Row { name, fault, toll, noticed: None, in_step, note }.print();
    assert_eq!(scene.agent.ended(), None, "the agent has ended");
    assert!(in_step.is_some(), "changes are not followed within {PROMPT:?}; {}", scene.agent.words());
    assert!(toll.is_none_or(|toll| (toll.leaked, toll.lost) == (0, 0)), "{toll:?}");
    assert!(scene.agent.is_live(), "it does not report that it is alive; {}", scene.agent.words());
}

/// Waits until shop/web is isolated, which needs no HTTP server.
fn wait_enforced(scene: &Scene) {
    scene.agent.wait("isolation", LIMIT, || scene.is_isolated(&scene.web));
}

#[test]
fn log_is_not_read() {
    const NAME: &str = "log_is_not_read";
    let (mut reader, writer) = pipe().unwrap();
    // The pipe is full before the agent writes its first line.
    let mut filler = writer.try_clone().unwrap();
    let full_up = std::thread::spawn(move || filler.write_all(&vec![b'x'; 65536]));
    full_up.join().unwrap().unwrap();
    let setup = Setup { stderr: Some(OwnedFd::from(writer)), ..Setup::default() };
    let scene = Scene::set_up(NAME, |_| {}, setup);
    let enforced = within(LIMIT, || scene.is_isolated(&scene.web));
    assert!(enforced.is_some(), "nothing is enforced without a reader of the log");
    scene.agent.wait_ready();
    let traffic = scene.traffic();
    let start = Instant::now();
    let mut delays = scene.delays(40);
    let most = delays.pop().unwrap_or_default();
    observe(start + Duration::from_secs(2));
    finish(
        &scene,
        NAME,
        "no process reads the log, and its pipe is full",
        Some(traffic),
        format!("longest delay {most:.2?}"),
    );
    // The log is read again: lines arrive, and one has the number of dropped lines.
    let mut read = vec![0; 65536];
    reader.read_exact(&mut read).unwrap();
    scene.agent.wait("more of the log", LIMIT, || scene.agent.metric("palisade_log_lines_dropped_total", "").is_some());
}

#[test]
fn log_is_closed() {
    const NAME: &str = "log_is_closed";
    let (reader, writer) = pipe().unwrap();
    let setup = Setup { stderr: Some(OwnedFd::from(writer)), ..Setup::default() };
    let scene = Scene::set_up(NAME, |_| {}, setup);
    scene.agent.wait_ready();
    let traffic = scene.traffic();
    drop(reader);
    for number in 0..5 {
        scene.api.put(deny("crowd", &format!("more-{number}")));
    }
    finish(&scene, NAME, "the reader of the log has exited", Some(traffic), String::new());
}

#[test]
fn port_is_taken() {
    const NAME: &str = "port_is_taken";
    let mut scene = Scene::new(NAME);
    scene.agent.kill();
    scene.node().nft("delete table inet palisade").ok();
    let address: SocketAddr = LISTEN.parse().unwrap();
    let taken = scene.node().run(|| TcpListener::bind(address)).unwrap().unwrap();
    scene.start_again();
    let enforced = within(Duration::from_secs(10), || scene.is_isolated(&scene.web));
    let ended = scene.agent.ended();
    drop(taken);
    let fault = "another program has the port when the agent starts";
    Row { name: NAME, fault, toll: None, noticed: None, in_step: enforced, note: ended.clone().unwrap_or_default() }
        .print();
    assert!(enforced.is_some() && ended.is_none(), "nothing is enforced: {ended:?}");
    // The port is served once it is free.
    scene.agent.wait_ready();
}

#[test]
fn silent_connections() {
    const NAME: &str = "silent_connections";
    let connections = if full() { 10_000 } else { 1_500 };
    let setup = Setup { stderr: None, files: Some((1024, 1024)) };
    let scene = Scene::set_up(NAME, |_| {}, setup);
    scene.agent.wait_ready();
    let traffic = scene.traffic();
    let address: SocketAddr = LISTEN.parse().unwrap();
    // The listener's queue is full if no thread accepts: further connections do not block.
    let held = scene.node().run(|| {
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(20)).ok();
        let deadline = Instant::now() + Duration::from_secs(30);
        (0..connections).take_while(|_| Instant::now() < deadline).filter_map(connect).collect::<Vec<_>>()
    });
    let held = held.unwrap();
    let alive = scene.agent.is_live();
    // The agent must reopen watches and delete flows, which takes descriptors.
    scene.api.cut_connections();
    let note = format!("{} connections held", held.len());
    finish(&scene, NAME, "silent connections to the port, at 1,024 descriptors", Some(traffic), note);
    assert!(alive, "the kubelet's probe is not answered; {}", scene.agent.words());
    drop(held);
}

#[test]
fn flood_of_scrapes() {
    const NAME: &str = "flood_of_scrapes";
    let scene = Scene::new(NAME);
    wait_enforced(&scene);
    let calm = scene.delays(20);
    let address: SocketAddr = LISTEN.parse().unwrap();
    let end = Instant::now() + Duration::from_secs(4);
    let scrapers: Vec<_> = (0..4)
        .map(|_| {
            let node = scene.node().clone();
            std::thread::spawn(move || node.run(|| scrape_until(address, end)).unwrap())
        })
        .collect();
    let busy = scene.delays(20);
    let scrapes: usize = scrapers.into_iter().map(|scraper| scraper.join().unwrap()).sum();
    let note = format!("{scrapes} scrapes; median delay {:.0?}, before {:.0?}", busy[10], calm[10]);
    finish(&scene, NAME, "metrics are scraped without pause", None, note);
    // On a busy machine the slowest scrapes are slow anyway.
    let (median, most) = (busy[10] < calm[10] * 4 + Duration::from_millis(200), busy[19] < Duration::from_secs(3));
    assert!(median && most, "calm {calm:?}, busy {busy:?}");
}

/// Scrapes metrics repeatedly; returns the number of answers.
fn scrape_until(address: SocketAddr, end: Instant) -> usize {
    let mut answers = 0;
    while Instant::now() < end {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        answers += usize::from(asked.is_ok() && stream.read_to_end(&mut answer).is_ok_and(|read| read > 0));
    }
    answers
}
