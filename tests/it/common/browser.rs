//! Chromium without a window, driven by the DevTools protocol over pipes:
//! <https://chromedevtools.github.io/devtools-protocol>.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium reads descriptor 3 and writes 4; the shell makes them of its own input and output.
const START: &str = "TMPDIR=\"$0\" exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --disable-background-networking --hide-scrollbars --remote-debugging-pipe --user-data-dir=\"$0\" about:blank \
    3<&0 4>&1 0</dev/null 1>/dev/null 2>\"$0/log\"";

/// A browser with one page. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Browser {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    directory: PathBuf,
    session: String,
    sent: u64,
    complaints: Vec<String>,
    loaded: u64,
}

/// Light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `prefers-color-scheme: light`.
    Light,
    /// `prefers-color-scheme: dark`.
    Dark,
}

impl Browser {
    /// Starts Chromium, which must be installed.
    pub(crate) fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("palisade-browser-{}", std::process::id()));
        let directory = (0..).map(|number| directory.with_extension(number.to_string()));
        let directory = directory.into_iter().find(|path| fs::create_dir(path).is_ok()).unwrap();
        let mut process = Command::new("sh")
            .args(["-c", START])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (sender, messages) = channel();
        thread::spawn(move || {
            let read = BufReader::new(output).split(0).map_while(Result::ok);
            for message in read.filter_map(|bytes| serde_json::from_slice(&bytes).ok()) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let session = String::new();
        let mut browser =
            Self { process, input, messages, directory, session, sent: 0, complaints: Vec::new(), loaded: 0 };
        let pages = browser.call("Target.getTargets", &json!({}));
        let pages = pages["targetInfos"].as_array().unwrap();
        let page = pages.iter().find(|target| target["type"] == "page").unwrap();
        let attached = browser.call("Target.attachToTarget", &json!({ "targetId": page["targetId"], "flatten": true }));
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Calls a method of the protocol and returns its result.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        let sent = self.sent;
        let answer = self.await_message(method, |message| message["id"] == sent);
        assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }

    /// Opens a file, and waits until it is loaded.
    pub(crate) fn open(&mut self, file: &Path) {
        let before = self.loaded;
        let address = format!("file://{}", file.canonicalize().unwrap().display());
        self.call("Page.navigate", &json!({ "url": address }));
        while self.loaded == before {
            self.await_message("load", |message| message["method"] == "Page.loadEventFired");
        }
    }

    /// The value of an expression in the page; a promise is awaited.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Presses a key, such as `Enter`, `ArrowDown`, `Tab` or `/`.
    pub(crate) fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Backspace" => 8,
            "Tab" => 9,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => 0,
        };
        let mut event = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        match key {
            "Enter" => event["text"] = "\r".into(),
            _ if key.chars().count() == 1 => event["text"] = key.into(),
            _ => {}
        }
        self.call("Input.dispatchKeyEvent", &event);
        self.call("Input.dispatchKeyEvent", &json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }));
    }

    /// Types text into what has the focus.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Sets the size of the window, in CSS pixels, and the scheme of colours.
    pub(crate) fn view(&mut self, (width, height): (u32, u32), scheme: Scheme) {
        let mobile = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        // Without motion, what a screenshot shows does not depend on its moment.
        let features = json!([
            { "name": "prefers-color-scheme", "value": value },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// What the window shows, as PNG in base64.
    pub(crate) fn screenshot(&mut self) -> String {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        shot["data"].as_str().unwrap().to_owned()
    }

    /// Errors and warnings of the console, and uncaught exceptions, since the last call.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // Events are sent in order, so an answer follows them.
        self.evaluate("0");
        std::mem::take(&mut self.complaints)
    }

    fn await_message(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = match self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => panic!("Chromium does not answer {what}: {}", self.log()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("Chromium ended, or is not installed (apt-get install chromium): {}", self.log())
                }
            };
            let (method, parameters) = (message["method"].as_str().unwrap_or_default(), &message["params"]);
            match method {
                "Page.loadEventFired" => self.loaded += 1,
                "Runtime.exceptionThrown" => self.complaints.push(parameters["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" if parameters["type"] == "error" || parameters["type"] == "warning" => {
                    self.complaints.push(parameters["args"].to_string());
                }
                "Log.entryAdded" => self.complaints.push(parameters["entry"].to_string()),
                _ => {}
            }
            if is_it(&message) {
                return message;
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends by itself when its pipe closes; this waits for it.
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_dir_all(&self.directory).ok();
    }
}
