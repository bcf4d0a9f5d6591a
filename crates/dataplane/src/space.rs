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
