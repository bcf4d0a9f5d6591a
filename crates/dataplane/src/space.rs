//! For tests: network namespaces, and tables loaded with nft.

use std::io::Write as _;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs a test in its own network namespace.
pub(crate) fn isolated<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root, for network namespaces");
            test()
        });
        run.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Loads a script into the thread's network namespace.
pub(crate) fn load(script: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is installed");
    nft.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("nft reads");
    assert!(nft.wait().expect("nft ends").success());
}

/// Waits until the table has no owner. A program that another test starts holds every socket of this process until it
/// runs, so a socket may outlive its table for a moment.
pub(crate) fn wait_unowned() {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while crate::table::owner().expect("the kernel answers").is_some() {
        assert!(std::time::Instant::now() < deadline, "the table keeps its owner");
        thread::yield_now();
    }
}
