//! Runs of the program, and manifests for them.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

pub(crate) const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");

/// A directory with files, removed at the end of the test. The program runs in it.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let place = Self(std::env::temp_dir().join(format!("palisade-cli-{name}-{}", std::process::id())));
        for (file, text) in files {
            let path = place.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        place
    }

    /// The program with arguments separated by spaces, in a new network namespace: its changes to the kernel disappear
    /// when it ends. It is killed if it does not end by itself.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", "30", "unshare", "--net", PALISADE]).args(arguments.split_whitespace());
        command.current_dir(&self.0).env_remove("NODE_NAME").env_remove("KUBECONFIG").env_remove("RUST_LOG");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    pub(crate) fn run_with(&self, arguments: &str, stdin: &str) -> Ended {
        Ended::of(feed(self.command(arguments), stdin))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The exit status and output of a run.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Asserts success with nothing on stderr; returns stdout.
    pub(crate) fn printed(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// Asserts a denial with nothing on stderr; returns stdout.
    pub(crate) fn denied(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (Some(1), ""), "{}", self.out);
        self.out
    }

    /// Asserts that it ended with this status, printed nothing and wrote all of this to stderr.
    pub(crate) fn assert_refused(&self, status: i32, says: &[&str]) {
        assert_eq!((self.status, self.out.as_str()), (Some(status), ""), "{self:?}");
        for words in says {
            assert!(self.err.contains(words), "no {words:?} in: {}", self.err);
        }
    }
}

pub(crate) fn feed(mut command: Command, stdin: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_owned();
    // A program that fails early does not read it all.
    let writer = std::thread::spawn(move || pipe.write_all(stdin.as_bytes()).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// shop/db on node-1 allows pods labelled `app=client` to TCP 80, and any IPv4 address to TCP 5432. ops/bare, on
/// node-2, has that label and no IP yet; shop/late has only IPv6. Nothing isolates namespace ops, and in shop only db
/// is isolated.
pub(crate) const SHOP: &str = "\
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {nodeName: node-1}
status: {phase: Running, hostIP: 172.30.0.11, podIPs: [{ip: 10.42.1.2}, {ip: 'fd42:1::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db, labels: {app: db}}
spec: {nodeName: node-1}
status: {phase: Running, hostIP: 172.30.0.11, podIPs: [{ip: 10.42.1.3}, {ip: 'fd42:1::3'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: late}
spec: {nodeName: node-1}
status: {phase: Running, hostIP: 172.30.0.11, podIPs: [{ip: 'fd42:1::4'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ops, name: bare, labels: {app: client}}
spec: {nodeName: node-2}
status: {phase: Pending, hostIP: 172.30.0.12}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
    - from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}]
      ports: [{port: 80}]
    - from: [{ipBlock: {cidr: 0.0.0.0/0}}]
      ports: [{port: 5432}]
";
