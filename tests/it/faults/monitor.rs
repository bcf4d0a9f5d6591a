//! The kernel's notices of changes to the table, as `nft monitor` receives them.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::Namespace;

/// `nft monitor` in a network namespace.
pub(crate) struct Monitor {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Monitor {
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let mut command = namespace.command("nft");
        let mut child = command.args(["monitor", "elements"]).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let monitor = Self { child, lines };
        monitor.wait_until_it_listens(namespace);
        monitor
    }

    fn wait_until_it_listens(&self, namespace: &Namespace) {
        let mark =
            "table ip heard {\nset signs {\ntype ipv4_addr\nelements = { 192.0.2.1 }\n}\n}\ndelete table ip heard\n";
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            namespace.nft(mark).unwrap();
            if self.lines.recv_timeout(Duration::from_millis(100)).is_ok_and(|(_, line)| line.contains(" ip heard ")) {
                return;
            }
        }
        panic!("nft monitor hears nothing");
    }

    /// The time at which the map from IPs to ingress chains gained or lost this IP.
    pub(crate) fn wait_isolated(&self, address: IpAddr, isolated: bool, limit: Duration) -> Option<Instant> {
        // "create" for an element that must not exist, as the agent adds it.
        let begin = if isolated { "create" } else { "delete" };
        let begin = format!("{begin} element inet palisade ingress4 {{ {address} ");
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((at, line)) if line.starts_with(&begin) => return Some(at),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
