//! The server's flags, users and kubeconfigs.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::{ADMIN, ApiServer, Authorization, Result, write};

impl ApiServer {
    pub(super) fn apiserver_flags(&self) -> Vec<String> {
        let certificates = self.certificates();
        // The serving key, which the server creates, also signs service-account tokens.
        let key = certificates.join("apiserver.key").display().to_string();
        let address = self.server.ip();
        let authorization = match self.authorization {
            Authorization::AlwaysAllow => "AlwaysAllow",
            Authorization::Rbac => "RBAC",
        };
        vec![
            format!("--etcd-servers={}", self.etcd_url),
            format!("--cert-dir={}", certificates.display()),
            format!("--token-auth-file={}", self.tokens().display()),
            format!("--authorization-mode={authorization}"),
            // Pods need no service account, since no controller creates one.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            format!("--secure-port={}", self.server.port()),
            // No EndpointSlice for the server itself: it rejects loopback addresses.
            "--endpoint-reconciler-type=none".to_owned(),
            "--allow-privileged=true".to_owned(),
        ]
    }

    fn certificates(&self) -> PathBuf {
        self.directory.join("certificates")
    }

    fn tokens(&self) -> PathBuf {
        self.directory.join("tokens.csv")
    }

    /// The token file, and a kubeconfig for each user.
    pub(super) fn write_users(&self, users: &[(String, Vec<String>)]) -> Result<()> {
        let admin = (ADMIN.to_owned(), vec!["system:masters".to_owned()]);
        let mut tokens = String::new();
        for (number, (user, groups)) in std::iter::once(&admin).chain(users).enumerate() {
            let token = format!("token-{number}");
            let groups = groups.join(",");
            // Writing to a String cannot fail.
            _ = writeln!(tokens, "{token},{user},{number},\"{groups}\"");
            write(&self.kubeconfig_of(user), &self.kubeconfig_text(&token, true))?;
        }
        // The administrator is first.
        write(&self.proxy_kubeconfig(), &self.kubeconfig_text("token-0", false))?;
        write(&self.tokens(), &tokens)
    }

    /// A kubeconfig that checks the server's certificate, or does not: the proxy starts before the certificate exists.
    fn kubeconfig_text(&self, token: &str, check: bool) -> String {
        let server = self.url();
        let cluster = if check {
            // The file ends with the authority that signed the certificate.
            let authority = self.certificates().join("apiserver.crt");
            json!({"server": server, "certificate-authority": authority})
        } else {
            json!({"server": server, "insecure-skip-tls-verify": true})
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }
}
