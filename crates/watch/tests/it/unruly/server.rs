//! A small API server in this process that answers as a test says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palisade_watch::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) verb: Verb,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Its number among those with its path and verb, from 0.
    pub(crate) number: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    List,
    Watch,
    Get,
    Create,
}

impl Asked {
    pub(crate) fn is(&self, verb: Verb, kind: Kind) -> bool {
        self.verb == verb && self.path.ends_with(&format!("/{}", kind.resource()))
    }

    pub(crate) fn number(&self, key: &str) -> Option<usize> {
        self.query.get(key)?.parse().ok()
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }

    /// The kind of a list or a watch.
    pub(crate) fn kind(&self) -> Kind {
        let kind = Kind::ALL.into_iter().find(|kind| self.path.ends_with(kind.resource()));
        kind.unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// The server's reaction.
pub(crate) enum Reply {
    Json(u16, Value),
    /// Nothing, forever.
    Never,
    /// The head of a response and these lines, then nothing until the requested time is over.
    Lines(Vec<Value>),
    /// The same, then nothing forever.
    Stuck(Vec<Value>),
    /// The same, then the end.
    Ends(Vec<Value>),
    /// A line that is not JSON, then nothing.
    Garbage,
    /// A list whose objects are made one by one.
    Made {
        objects: usize,
        bytes: usize,
        next: Option<String>,
    },
    /// After a delay.
    After(Duration, Box<Reply>),
}

/// The server.
pub(crate) struct Server {
    pub(crate) kubeconfig: PathBuf,
    seen: Arc<Mutex<Vec<Asked>>>,
    /// Requests being answered now, except watches, and the maximum so far.
    busiest: Arc<AtomicUsize>,
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

impl Server {
    /// Starts a server that answers as `handler` says.
    pub(crate) async fn start(name: &str, handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubeconfig = std::env::temp_dir().join(format!("palisade-unruly-{}-{name}", std::process::id()));
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let seen = Arc::<Mutex<Vec<Asked>>>::default();
        let busiest = Arc::<AtomicUsize>::default();
        let (handler, busy): (Arc<Handler>, _) = (Arc::new(handler), Arc::<AtomicUsize>::default());
        let server = Self { kubeconfig, seen: Arc::clone(&seen), busiest: Arc::clone(&busiest) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = Connection {
                    stream,
                    handler: Arc::clone(&handler),
                    seen: Arc::clone(&seen),
                    busy: Arc::clone(&busy),
                    busiest: Arc::clone(&busiest),
                };
                tokio::spawn(connection.serve());
            }
        });
        server
    }

    /// The requests so far that satisfy the condition.
    pub(crate) fn seen(&self, is_so: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        self.seen.lock().unwrap().iter().filter(|asked| is_so(asked)).cloned().collect()
    }

    pub(crate) fn busiest(&self) -> usize {
        self.busiest.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        std::fs::remove_file(&self.kubeconfig).ok();
    }
}

struct Connection {
    stream: TcpStream,
    handler: Arc<Handler>,
    seen: Arc<Mutex<Vec<Asked>>>,
    busy: Arc<AtomicUsize>,
    busiest: Arc<AtomicUsize>,
}

impl Connection {
    /// Serves until the client closes.
    async fn serve(mut self) {
        while let Some(asked) = self.request().await {
            let reply = (self.handler)(&asked);
            let now = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
            if asked.verb == Verb::Get {
                self.busiest.fetch_max(now, Ordering::SeqCst);
            }
            if matches!(asked.verb, Verb::Watch | Verb::List) {
                self.busy.fetch_sub(1, Ordering::SeqCst);
            }
            let answered = self.answer(&asked, reply).await;
            if matches!(asked.verb, Verb::Get | Verb::Create) {
                self.busy.fetch_sub(1, Ordering::SeqCst);
            }
            if answered.is_err() {
                return;
            }
        }
    }

    async fn request(&mut self) -> Option<Asked> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body).await.ok()?;
        let mut words = head.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<_, _> =
            query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        let is_collection = Kind::ALL.iter().any(|kind| path.ends_with(&format!("/{}", kind.resource())));
        let verb = match method {
            "POST" => Verb::Create,
            _ if query.contains_key("watch") => Verb::Watch,
            _ if is_collection => Verb::List,
            _ => Verb::Get,
        };
        let mut seen = self.seen.lock().unwrap();
        let number = seen.iter().filter(|asked| asked.verb == verb && asked.path == path).count();
        let asked = Asked { at: Instant::now(), verb, path: path.into(), query, number };
        seen.push(asked.clone());
        Some(asked)
    }

    async fn answer(&mut self, asked: &Asked, reply: Reply) -> std::io::Result<()> {
        let mut reply = reply;
        while let Reply::After(time, then) = reply {
            tokio::time::sleep(time).await;
            reply = *then;
        }
        match reply {
            Reply::Json(status, body) => {
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                self.stream.write_all(head.as_bytes()).await?;
                self.stream.write_all(body.as_bytes()).await
            }
            Reply::Never => self.until_gone(Duration::MAX).await,
            Reply::Lines(lines) => {
                self.lines(&lines).await?;
                self.until_gone(Duration::from_secs(asked.number("timeoutSeconds").unwrap_or(60) as u64)).await?;
                self.stream.write_all(b"0\r\n\r\n").await
            }
            Reply::Stuck(lines) => {
                self.lines(&lines).await?;
                self.until_gone(Duration::MAX).await
            }
            Reply::Ends(lines) => {
                self.lines(&lines).await?;
                self.stream.write_all(b"0\r\n\r\n").await
            }
            Reply::Garbage => {
                self.lines(&[]).await?;
                self.chunk("{\"type\":\"ADDED\",\"object\":{\"meta\n").await?;
                self.until_gone(Duration::MAX).await
            }
            Reply::Made { objects, bytes, next } => {
                self.lines(&[]).await?;
                let metadata = json!({"resourceVersion": "7", "continue": next.unwrap_or_default()});
                self.chunk(&format!("{{\"metadata\":{metadata},\"items\":[")).await?;
                for number in 0..objects {
                    let name = format!("{}-{number}", asked.text("continue").unwrap_or("first"));
                    let comma = if number > 0 { "," } else { "" };
                    self.chunk(&format!("{comma}{}", pod(&name, "7", bytes))).await?;
                }
                self.chunk("]}").await?;
                self.stream.write_all(b"0\r\n\r\n").await
            }
            Reply::After(..) => unreachable!(),
        }
    }

    async fn lines(&mut self, lines: &[Value]) -> std::io::Result<()> {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        self.stream.write_all(head).await?;
        for line in lines {
            self.chunk(&format!("{line}\n")).await?;
        }
        Ok(())
    }

    async fn chunk(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
    }

    /// Waits until the client closes the connection, which is an error, or the time is over.
    async fn until_gone(&mut self, time: Duration) -> std::io::Result<()> {
        let gone = tokio::time::timeout(time, self.stream.read_u8()).await;
        if gone.is_ok() { Err(std::io::Error::other("gone")) } else { Ok(()) }
    }
}

/// A pod with this much padding.
pub(crate) fn pod(name: &str, version: &str, bytes: usize) -> Value {
    json!({
        "metadata": {"namespace": "n", "name": name, "resourceVersion": version},
        "spec": {"containers": [{"name": "c", "env": [{"name": "E", "value": "x".repeat(bytes)}]}]},
    })
}

pub(crate) fn policy(name: &str, version: &str) -> Value {
    json!({
        "metadata": {"namespace": "n", "name": name, "resourceVersion": version}, "spec": {"podSelector": {}},
    })
}

pub(crate) fn namespace(name: &str, terminating: bool) -> Value {
    let phase = if terminating { "Terminating" } else { "Active" };
    json!({"metadata": {"name": name, "resourceVersion": "3"}, "status": {"phase": phase}})
}

pub(crate) fn list(objects: &[Value], version: &str, next: &str) -> Reply {
    Reply::Json(200, json!({"metadata": {"resourceVersion": version, "continue": next}, "items": objects}))
}

pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})
}

pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Reply {
    Reply::Json(code, status(code, reason, message))
}

pub(crate) fn line(event: &str, object: Value) -> Value {
    [("type", event.into()), ("object", object)].into_iter().collect()
}

pub(crate) fn bookmark(version: &str) -> Value {
    line("BOOKMARK", json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version}}))
}

/// An empty cluster without events.
pub(crate) fn calm(asked: &Asked) -> Reply {
    match asked.verb {
        Verb::List => list(&[], "1", ""),
        Verb::Watch => Reply::Lines(vec![]),
        Verb::Get | Verb::Create => refusal(404, "NotFound", "there is none"),
    }
}
