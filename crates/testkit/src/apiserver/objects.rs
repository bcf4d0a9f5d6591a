//! Creates, changes and deletes objects, and does what controllers and kubelets would do with them.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{ApiServer, Error, Result, serial};

/// The path of a namespace.
pub fn namespace_path(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}

/// The path of a pod.
pub fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

/// The path of a NetworkPolicy.
pub fn network_policy_path(namespace: &str, name: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}")
}

impl ApiServer {
    /// Creates an object from its manifest.
    pub fn create(&self, object: &Value) -> Result<Value> {
        self.request("POST", &collection(object)?, Some(object))
    }

    /// Creates the object, or applies the manifest to an existing one (server-side apply).
    pub fn apply_object(&self, object: &Value) -> Result<Value> {
        let name = field(object, "/metadata/name", "metadata.name")?;
        let path = format!("{}/{name}?fieldManager=testkit&force=true", collection(object)?);
        self.request_as("PATCH", &path, "application/apply-patch+yaml", Some(object))
    }

    /// Creates or updates the object at a path with a manifest that is sent verbatim (server-side apply).
    pub fn apply_text(&self, path: &str, yaml: &str) -> Result<Value> {
        let path = format!("{path}?fieldManager=testkit&force=true");
        self.request_text("PATCH", &path, "application/apply-patch+yaml", Some(yaml))
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, None)
    }

    /// Changes fields of the object at a path (JSON merge patch; null removes one). `PATH/status` changes the status.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.request_as("PATCH", path, "application/merge-patch+json", Some(patch))
    }

    /// Deletes the object at a path at once: pods without grace, as if their kubelet had confirmed it. For namespaces
    /// use [`Self::delete_namespace`].
    pub fn delete(&self, path: &str) -> Result<()> {
        let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        self.request("DELETE", path, Some(&options)).map(drop)
    }

    /// Replaces the labels of the object at a path; null removes one.
    pub fn label(&self, path: &str, labels: &Value) -> Result<()> {
        let patch = json!({"metadata": {"labels": labels}});
        self.patch(path, &patch).map(drop)
    }

    /// Creates a namespace.
    pub fn create_namespace(&self, name: &str, labels: &Value) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        });
        self.create(&namespace).map(drop)
    }

    /// Creates a namespace whose name begins with `prefix` and that no other test has.
    pub fn unique_namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", serial());
        self.create_namespace(&name, &json!({}))?;
        Ok(name)
    }

    /// Deletes a namespace and its contents as the controllers would: first its pods, then its policies.
    pub fn delete_namespace(&self, name: &str) -> Result<()> {
        let path = namespace_path(name);
        self.delete(&path)?;
        self.delete(&format!("{path}/pods"))?;
        self.delete(network_policy_path(name, "").trim_end_matches('/'))?;
        // The namespace controller's last step.
        let mut namespace = self.get(&path)?;
        if let Some(spec) = namespace.get_mut("spec") {
            *spec = json!({"finalizers": []});
        }
        let finalize = format!("{path}/finalize");
        self.request("PUT", &finalize, Some(&namespace)).map(drop)
    }

    /// Creates a pod bound to a node, with one container and no IP yet.
    pub fn create_pod(&self, namespace: &str, name: &str, node: &str, labels: &Value) -> Result<()> {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        });
        self.create(&pod).map(drop)
    }

    /// Acts as the kubelet when a pod runs: sets its phase and IPs (the first is `podIP`).
    pub fn set_pod_running(&self, namespace: &str, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let all: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
        let status = json!({"phase": "Running", "podIP": addresses.first(), "podIPs": all});
        self.set_pod_status(namespace, name, &status)
    }

    /// Changes fields of a pod's status.
    pub fn set_pod_status(&self, namespace: &str, name: &str, status: &Value) -> Result<()> {
        let path = pod_path(namespace, name) + "/status";
        self.patch(&path, &json!({ "status": status })).map(drop)
    }
}

/// The path for creating objects of this kind, in this namespace.
fn collection(object: &Value) -> Result<String> {
    let version = field(object, "/apiVersion", "apiVersion")?;
    let kind = field(object, "/kind", "kind")?.to_lowercase();
    // Kubernetes forms the plural of every kind that tests use this way.
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    let root = if version.contains('/') { "/apis" } else { "/api" };
    Ok(match object.pointer("/metadata/namespace") {
        Some(Value::String(namespace)) => format!("{root}/{version}/namespaces/{namespace}/{plural}"),
        _ => format!("{root}/{version}/{plural}"),
    })
}

pub(super) fn field<'a>(object: &'a Value, pointer: &str, field: &'static str) -> Result<&'a str> {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::Incomplete { field, object: object.to_string() })
}
