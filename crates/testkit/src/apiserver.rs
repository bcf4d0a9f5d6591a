//! A real Kubernetes API server for tests: etcd and kube-apiserver, no nodes.
//!
//! Pods are objects only: create them with a node's name and set their addresses,
//! as a kubelet would. The programs come from `hack/envtest`.
//!
//! Requests go through `kubectl proxy` on a Unix socket, so that they take a
//! millisecond, need no TLS here, and reach a server in another network namespace.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

mod error;
mod etcd;
mod http;
mod objects;
mod process;
mod settings;

use error::setup;
pub use error::{Error, Result};
pub use objects::{namespace_path, network_policy_path, pod_path};
use process::{Cleanup, Supervised};

/// The user with every right; [`ApiServer::kubeconfig`] holds its token.
const ADMIN: &str = "admin";

/// A start takes about 3 s; this leaves room for a machine busy with other tests.
const READY_DEADLINE: Duration = Duration::from_secs(90);

/// Starts a command in the place (network namespace) where the server should run. The process that it returns must be
/// the command itself, not a parent that waits for it, and its standard streams must be left alone. A thread that
/// enters the namespace and calls [`Command::spawn`] is fine, and may end afterwards.
pub type Launcher = dyn Fn(&mut Command) -> io::Result<Child> + Send + Sync;

/// The authorization mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Every user may do everything.
    AlwaysAllow,
    /// Roles decide. The group `system:masters` may do everything.
    Rbac,
}

/// How to start a server.
pub struct Builder {
    launcher: Box<Launcher>,
    address: IpAddr,
    authorization: Authorization,
    users: Vec<(String, Vec<String>)>,
    flags: Vec<String>,
}

impl Builder {
    /// Runs the server's programs, and kubectl, through `launcher`; by default they
    /// are plain children of this process. The network namespace needs its loopback
    /// interface up.
    #[must_use]
    pub fn launcher(mut self, launcher: impl Fn(&mut Command) -> io::Result<Child> + Send + Sync + 'static) -> Self {
        self.launcher = Box::new(launcher);
        self
    }

    /// The address that the server listens on and that kubeconfigs name; by default
    /// 127.0.0.1.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// By default everything is allowed.
    #[must_use]
    pub fn authorization(mut self, authorization: Authorization) -> Self {
        self.authorization = authorization;
        self
    }

    /// An additional user, for [`ApiServer::kubeconfig_of`]. A service account is called
    /// `system:serviceaccount:NAMESPACE:NAME`.
    #[must_use]
    pub fn user(mut self, name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(ToString::to_string).collect();
        self.users.push((name.to_owned(), groups));
        self
    }

    /// An additional flag of kube-apiserver.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts etcd and the API server and waits until it is ready.
    pub fn start(self) -> Result<ApiServer> {
        ApiServer::start(self)
    }
}

/// A running API server with its etcd. Dropping it stops both and removes their files; so does the end of this process,
/// however it ends.
pub struct ApiServer {
    assets: PathBuf,
    directory: PathBuf,
    launcher: Box<Launcher>,
    authorization: Authorization,
    flags: Vec<String>,
    server: SocketAddr,
    etcd_url: String,
    processes: Mutex<Processes>,
    // Dropped last: it removes the directory.
    _cleanup: Cleanup,
}

#[derive(Default)]
struct Processes {
    etcd: Option<Supervised>,
    apiserver: Option<Supervised>,
    proxy: Option<Supervised>,
}

impl ApiServer {
    /// A server on 127.0.0.1 that allows everything, unless configured otherwise.
    pub fn builder() -> Builder {
        Builder {
            launcher: Box::new(Command::spawn),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            authorization: Authorization::AlwaysAllow,
            users: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// The server that the tests of one binary share, started at the first call. It ends with the process. Use your own
    /// namespaces: [`Self::unique_namespace`].
    ///
    /// # Panics
    /// If the server does not start.
    pub fn shared() -> &'static ApiServer {
        static SHARED: OnceLock<ApiServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            #[expect(clippy::panic, reason = "a test that needs the server cannot go on")]
            ApiServer::builder().start().unwrap_or_else(|error| panic!("{error}"))
        })
    }

    fn start(builder: Builder) -> Result<Self> {
        let assets = find_assets()?;
        let directory = temporary_directory()?;
        let cleanup = Cleanup::of(&directory)?;
        let [etcd_port, peer_port, server_port] = free_ports()?;
        let server = ApiServer {
            assets,
            directory,
            launcher: builder.launcher,
            authorization: builder.authorization,
            flags: builder.flags,
            server: SocketAddr::new(builder.address, server_port),
            etcd_url: format!("http://127.0.0.1:{etcd_port}"),
            processes: Mutex::default(),
            _cleanup: cleanup,
        };
        server.write_users(&builder.users)?;
        server.launch_etcd(peer_port)?;
        server.launch_proxy()?;
        server.start_apiserver()?;
        Ok(server)
    }

    /// Ends the API server at once, as a crash would; etcd keeps the objects.
    pub fn stop_apiserver(&self) {
        self.processes().apiserver = None;
    }

    /// Starts the API server again, at the same address with the same objects, and
    /// waits until it is ready.
    pub fn start_apiserver(&self) -> Result<()> {
        let mut processes = self.processes();
        if processes.apiserver.is_some() {
            return Ok(());
        }
        processes.apiserver =
            Some(self.launch("kube-apiserver", &[self.apiserver_flags(), self.flags.clone()].concat())?);
        self.wait_ready(&mut processes)
    }

    /// The server's address, as kubeconfigs name it.
    pub fn url(&self) -> String {
        format!("https://{}", self.server)
    }

    /// A kubeconfig file with every right.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of(ADMIN)
    }

    /// The kubeconfig file of a user given to [`Builder::user`].
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.directory.join(format!("kubeconfig-{}", user.replace(':', "-")))
    }

    /// The fixture's directory: logs (`etcd.log`, `kube-apiserver.log`), kubeconfigs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs kubectl with every right; returns its stdout.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.program("kubectl");
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.directory.join("kubectl-cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = (self.launcher)(&mut command)
            .and_then(Child::wait_with_output)
            .map_err(|source| setup("run kubectl", source))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Kubectl {
            arguments: arguments.join(" "),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// `kubectl apply` of YAML documents.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let file = self.directory.join(format!("apply-{}.yaml", serial()));
        write(&file, yaml)?;
        let file = file.display().to_string();
        self.kubectl(&["apply", "--filename", &file]).map(drop)
    }

    /// One request; `path` as in `/api/v1/namespaces/default/pods`. Returns the answer's JSON, or [`Error::Refused`].
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.request_as(method, path, "application/json", body)
    }

    fn request_as(&self, method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Result<Value> {
        self.request_text(method, path, content_type, body.map(Value::to_string).as_deref())
    }

    fn request_text(&self, method: &str, path: &str, content_type: &str, body: Option<&str>) -> Result<Value> {
        let answer = http::request(&self.socket(), method, path, content_type, body)
            .map_err(|source| Error::Unreachable { method: method.to_owned(), path: path.to_owned(), source })?;
        let value = serde_json::from_str::<Value>(&answer.body).ok();
        if (200..300).contains(&answer.status) {
            return Ok(value.unwrap_or(Value::Null));
        }
        let message =
            value.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str).unwrap_or(&answer.body);
        Err(Error::Refused {
            method: method.to_owned(),
            path: path.to_owned(),
            status: answer.status,
            message: message.trim().to_owned(),
        })
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, Processes> {
        // Poisoned by a failed test; the processes are unchanged.
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.assets.join(name))
    }

    fn proxy_kubeconfig(&self) -> PathBuf {
        self.directory.join("proxy-kubeconfig")
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("proxy.sock")
    }

    fn log(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}.log"))
    }

    /// Starts one of the programs, with its output in its log.
    fn launch(&self, program: &'static str, flags: &[String]) -> Result<Supervised> {
        let action = || format!("start {program}");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(program))
            .map_err(|source| setup(action(), source))?;
        Supervised::launch(&self.assets.join(program), flags, &log, &*self.launcher)
            .map_err(|source| setup(action(), source))
    }

    fn launch_etcd(&self, peer_port: u16) -> Result<()> {
        let client = &self.etcd_url;
        let flags = [
            format!("--data-dir={}", self.directory.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        self.processes().etcd = Some(self.launch("etcd", &flags)?);
        Ok(())
    }

    fn launch_proxy(&self) -> Result<()> {
        let flags = [
            "proxy".to_owned(),
            format!("--kubeconfig={}", self.proxy_kubeconfig().display()),
            format!("--unix-socket={}", self.socket().display()),
        ];
        self.processes().proxy = Some(self.launch("kubectl", &flags)?);
        Ok(())
    }

    fn wait_ready(&self, processes: &mut Processes) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        let program = "kube-apiserver";
        loop {
            for (program, process) in
                [("etcd", &mut processes.etcd), ("kubectl", &mut processes.proxy), (program, &mut processes.apiserver)]
            {
                if let Some(status) = process.as_mut().and_then(Supervised::ended) {
                    return Err(self.not_ready(program, format!("ended with {status}")));
                }
            }
            let Err(problem) = self.request("GET", "/readyz", None) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(self.not_ready(program, format!("is not ready ({problem})")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn not_ready(&self, program: &'static str, problem: String) -> Error {
        let text = fs::read_to_string(self.log(program)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        let log = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        Error::NotReady { program, problem, log }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // The server before its etcd.
        let processes = self.processes.get_mut();
        let processes = processes.unwrap_or_else(PoisonError::into_inner);
        processes.proxy = None;
        processes.apiserver = None;
        processes.etcd = None;
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|source| setup(format!("write {}", path.display()), source))
}

/// A number that this process has not used before.
fn serial() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The path of one of the programs: `kubectl`, for commands that need no server.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(find_assets()?.join(name))
}

/// The directory in which `hack/envtest` put the programs.
fn find_assets() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let directory = variable("KUBEBUILDER_ASSETS")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("PALISADE_CACHE")?).join("envtest")))
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache/palisade/envtest")))
        .unwrap_or_default();
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        if !directory.join(program).is_file() {
            return Err(Error::Missing { program, directory: directory.display().to_string() });
        }
    }
    Ok(directory)
}

fn temporary_directory() -> Result<PathBuf> {
    let name = format!("palisade-apiserver-{}-{}", std::process::id(), serial());
    let directory = std::env::temp_dir().join(name);
    fs::create_dir(&directory).map_err(|source| setup(format!("make {}", directory.display()), source))?;
    Ok(directory)
}

/// Free ports here. (A separate network namespace has them free as well.)
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    // All at once, so that they differ.
    let listeners: io::Result<Vec<_>> = (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let ports = listeners.and_then(|all| all.iter().map(port).collect::<io::Result<Vec<_>>>());
    let ports = ports.map_err(|source| setup("find free ports", source))?;
    let mut result = [0; N];
    result.copy_from_slice(&ports);
    Ok(result)
}
