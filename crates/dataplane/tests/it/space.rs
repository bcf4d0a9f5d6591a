//! A network namespace for a test, and tools that inspect it independently of our code.

use std::io::Write as _;
use std::panic::resume_unwind;
use std::process::{Command, Output, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs a test on a thread in a new network namespace, which ends with the thread.
pub(crate) fn isolated<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root, for network namespaces");
            test()
        });
        run.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Runs a tool in this thread's namespace.
pub(crate) fn run(tool: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool}: {error}"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads its input");
    child.wait_with_output().expect("it ends")
}

/// Runs a tool that must succeed, and returns what it printed.
pub(crate) fn output(tool: &str, arguments: &[&str], input: &str) -> String {
    let output = run(tool, arguments, input);
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Loads nft text.
pub(crate) fn load(text: &str) {
    output("nft", &["-f", "-"], text);
}

/// nft's listing of our table.
pub(crate) fn list() -> String {
    output("nft", &["list", "table", "inet", "palisade"], "")
}

/// nft's listing of everything.
pub(crate) fn list_all() -> String {
    output("nft", &["list", "ruleset"], "")
}

/// Waits until the table has no owner. A program that another test starts holds every socket of this process until it
/// runs, so a socket may outlive its table for a moment.
pub(crate) fn wait_unowned() {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while palisade_dataplane::table::owner().unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "the table keeps its owner");
        thread::yield_now();
    }
}
