//! Writes objects into etcd that today's API server would reject, as an older one left them.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::objects::field;
use super::{ApiServer, Result, setup};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl ApiServer {
    /// Writes a policy into etcd unchanged. The calling thread must be in the server's network namespace.
    pub fn store_policy(&self, policy: &Value) -> Result<()> {
        let namespace = field(policy, "/metadata/namespace", "metadata.namespace")?;
        let name = field(policy, "/metadata/name", "metadata.name")?;
        let key = format!("/registry/networkpolicies/{namespace}/{name}");
        // etcd's JSON interface wants keys and values in base64.
        let body = json!({ "key": base64(&key), "value": base64(&policy.to_string()) }).to_string();
        self.put(&body).map_err(|source| setup(format!("store {key}"), source))
    }

    fn put(&self, body: &str) -> io::Result<()> {
        let mut etcd = TcpStream::connect(self.etcd_url.trim_start_matches("http://"))?;
        let length = body.len();
        write!(etcd, "POST /v3/kv/put HTTP/1.0\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut answer = String::new();
        etcd.read_to_string(&mut answer)?;
        let done = answer.lines().next().is_some_and(|status| status.contains(" 200 "));
        if done { Ok(()) } else { Err(io::Error::other(answer)) }
    }
}

fn base64(text: &str) -> String {
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().zip([16, 8, 0]).fold(0, |bits, (byte, shift)| bits | u32::from(*byte) << shift);
        for (digit, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let value = usize::try_from(bits >> shift & 63).unwrap_or_default();
            let digit = if digit > chunk.len() { None } else { DIGITS.get(value) };
            out.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    out
}
