//! Turns documents into objects: kinds, lists, and what to do with the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::sync::Arc;

use palisade_policy::input::{EndpointSlice, Kind, Object, Pod, Service};

use super::written::{Lines, Written};
use crate::decode::{DeclaredPort, Decoded, Decoder, Issue, KubeNamespace, KubePod, Path, WorkloadKind, service};
use crate::finding::{Finding, Flaw, ObjectName, Place};
use crate::node::{Node, Value};
use crate::yaml;
use palisade_policy::nearest;

/// What to read from a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Pods, namespaces and policies.
    #[default]
    Objects,
    /// Also workloads, each as one pod.
    Workloads,
    /// Also the readable parts of objects with mistakes, and the positions of everything.
    Everything,
}

/// A workload, read as one pod. The pod gets its name after all files are read.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) kind: WorkloadKind,
    pub(crate) pod: Pod,
    pub(crate) place: Place,
    pub(crate) prefix: String,
    pub(crate) ports: Vec<DeclaredPort>,
    pub(crate) sound: bool,
}

/// The content of a file. Do not use it if there are errors, except with [`Reading::Everything`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) objects: Vec<(Object, Place)>,
    pub(crate) reading: Reading,
    /// The position of the path that it was read from.
    pub(crate) origin: usize,
    /// With [`Reading::Workloads`] and up.
    pub(crate) workloads: Vec<Workload>,
    /// With [`Reading::Everything`]: one for each of `objects`, in their order.
    pub(crate) written: Vec<Written>,
    pub(crate) warnings: Vec<Finding>,
    pub(crate) errors: Vec<Finding>,
    /// With [`Reading::Workloads`] and up.
    pub(crate) services: Vec<Service>,
    pub(crate) slices: Vec<EndpointSlice>,
    /// Objects of other kinds, by kind.
    pub(crate) ignored: BTreeMap<String, usize>,
    /// The namespaces with objects of custom kinds.
    pub(crate) custom: BTreeSet<Arc<str>>,
}

impl Content {
    /// Reads the text of a file. Objects without a namespace are in `namespace`.
    pub(crate) fn parse(file: &FilePath, text: &str, reading: Reading, namespace: &str) -> Self {
        let mut content = Self { reading, ..Self::default() };
        for document in yaml::documents(text) {
            let mut reader = Reader { file, document: document.number, reading, namespace, content: &mut content };
            match document.root {
                Ok(root) => reader.document(&root),
                Err(malformed) => {
                    let is_other = document.kind.as_deref().is_some_and(is_other_kind);
                    reader.malformed(malformed.line, malformed.reason, malformed.hint, is_other);
                }
            }
        }
        content
    }
}

/// `apiVersion` and `kind` of an object.
#[derive(Clone, Copy)]
struct TypeMeta<'n> {
    group: &'n str,
    version: &'n str,
    kind: &'n str,
}

/// What to do with an object.
enum Route {
    Read { kind: Kind, legacy: bool },
    Workload(WorkloadKind),
    Service,
    EndpointSlice,
    List,
    ListOf { group: &'static str, version: &'static str, kind: &'static str },
    Ignore,
    Wrong { field: &'static str, reason: String, hint: Option<String> },
}

struct Reader<'c> {
    file: &'c FilePath,
    document: usize,
    reading: Reading,
    namespace: &'c str,
    content: &'c mut Content,
}

impl Reader<'_> {
    fn document(&mut self, root: &Node) {
        match &root.value {
            Value::Null => {}
            Value::Mapping(_) => self.object(root, &Path::Root, None),
            _ => {
                let hint = matches!(root.value, Value::Sequence(_))
                    .then(|| "separate objects with `---`, or put them under items of a List".to_owned());
                self.error(root.line, format!("an object must be a mapping, not {}", root.in_words()), hint);
            }
        }
    }

    fn object(&mut self, node: &Node, path: &Path<'_>, implied: Option<TypeMeta<'_>>) {
        let mut decoder = Decoder::of_manifest(self.namespace);
        let Some(meta) = type_meta(node, path, implied, &mut decoder) else {
            self.note(decoder, None);
            return;
        };
        match route(meta) {
            Route::Read { kind, legacy } => self.read(node, path, kind, legacy, decoder),
            Route::Workload(kind) if self.reading != Reading::Objects => self.workload(node, path, kind, decoder),
            Route::Service if self.reading != Reading::Objects => {
                let read = service::service(&plain(node, path, decoder), self.namespace);
                self.content.services.extend(read);
            }
            Route::EndpointSlice if self.reading != Reading::Objects => {
                let read = service::endpoint_slice(&plain(node, path, decoder), self.namespace);
                self.content.slices.extend(read);
            }
            Route::List => self.list(node, path, None),
            Route::ListOf { group, version, kind } => self.list(node, path, Some(TypeMeta { group, version, kind })),
            Route::Ignore | Route::Workload(_) | Route::Service | Route::EndpointSlice => {
                if is_custom(meta.group) {
                    let namespace = node.get("metadata").and_then(|metadata| metadata.get("namespace"));
                    let namespace = namespace.and_then(Node::text).unwrap_or(self.namespace);
                    self.content.custom.insert(namespace.into());
                }
                *self.content.ignored.entry(meta.kind.to_owned()).or_default() += 1;
            }
            Route::Wrong { field, reason, hint } => {
                let line = node.get(field).map_or(node.line, |field| field.line);
                let field = path.key(field).to_string();
                decoder.errors.push(Issue { line, flaw: Flaw::WrongKind, field, reason, hint });
                self.note(decoder, None);
            }
        }
    }

    fn read(&mut self, node: &Node, path: &Path<'_>, kind: Kind, legacy: bool, mut decoder: Decoder) {
        if legacy {
            decoder.warnings.push(Issue {
                line: node.get("apiVersion").map_or(node.line, |field| field.line),
                flaw: Flaw::LegacyVersion,
                field: path.key("apiVersion").to_string(),
                reason: "Kubernetes 1.16 removed extensions/v1beta1; read as networking.k8s.io/v1".to_owned(),
                hint: None,
            });
        }
        let decoded = match kind {
            Kind::Pod => decoder.manifest::<KubePod>(node, path),
            Kind::Namespace => decoder.manifest::<KubeNamespace>(node, path),
            Kind::NetworkPolicy => {
                let policy = decoder.policy(node, path, legacy).map(Object::Policy);
                policy.map(|object| Decoded { object, ports: Vec::new() })
            }
        };
        let name = decoded.as_ref().map(|decoded| ObjectName::of(&decoded.object));
        let sound = decoder.errors.is_empty();
        if let Some(Decoded { object, ports }) = decoded.filter(|_| sound || self.reading == Reading::Everything) {
            if self.reading == Reading::Everything {
                // Only policies need the positions of their fields.
                let lines = if kind == Kind::NetworkPolicy { Lines::of(node, path) } else { Lines::default() };
                let (place, prefix) = (self.place(node), path.to_string());
                self.content.written.push(Written { place, prefix, lines, sound, workload: None, ports });
            }
            self.content.objects.push((object, self.place(node)));
        }
        decoder.relocate(node, path);
        self.note(decoder, name.as_ref());
    }

    fn workload(&mut self, node: &Node, path: &Path<'_>, kind: WorkloadKind, mut decoder: Decoder) {
        let decoded = decoder.workload(kind, node, path);
        let sound = decoder.errors.is_empty();
        let name = decoded.as_ref().map(|(pod, _)| ObjectName::pod(&pod.key));
        if let Some((pod, ports)) = decoded.filter(|_| sound || self.reading == Reading::Everything) {
            let (place, prefix) = (self.place(node), path.to_string());
            self.content.workloads.push(Workload { kind, pod, place, prefix, ports, sound });
        }
        decoder.relocate(node, path);
        self.note(decoder, name.as_ref());
    }

    fn place(&self, node: &Node) -> Place {
        Place { file: self.file.to_owned(), document: self.document, line: node.line }
    }

    fn list(&mut self, node: &Node, path: &Path<'_>, implied: Option<TypeMeta<'_>>) {
        let path = &path.key("items");
        let Some(items) = node.get("items") else { return };
        let Value::Sequence(items) = &items.value else {
            self.error(items.line, format!("{path}: must be a list, not {}", items.in_words()), None);
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let path = &path.index(index);
            if matches!(item.value, Value::Mapping(_)) {
                self.object(item, path, implied);
            } else {
                self.error(item.line, format!("{path}: an object must be a mapping, not {}", item.in_words()), None);
            }
        }
    }

    /// Takes over the decoder's findings.
    fn note(&mut self, decoder: Decoder, object: Option<&ObjectName>) {
        let finding = |issue: Issue| Finding {
            file: self.file.to_owned(),
            document: Some(self.document),
            line: Some(issue.line),
            object: object.cloned(),
            flaw: issue.flaw,
            field: issue.field,
            reason: issue.reason,
            hint: issue.hint,
        };
        self.content.warnings.extend(decoder.warnings.into_iter().map(finding));
        let mut errors: Vec<_> = decoder.errors.into_iter().map(finding).collect();
        errors.sort_by_key(|error| error.line);
        self.content.errors.extend(errors);
    }

    fn error(&mut self, line: usize, reason: String, hint: Option<String>) {
        self.malformed(line, reason, hint, false);
    }

    /// Notes an unreadable document. If it is of another kind, policies do not need it, and it is only a warning.
    fn malformed(&mut self, line: usize, reason: String, hint: Option<String>, is_other: bool) {
        let mut finding = Finding::of_file(self.file, Flaw::Malformed, reason);
        finding.document = Some(self.document);
        finding.line = Some(line);
        finding.hint = hint;
        let list = if is_other { &mut self.content.warnings } else { &mut self.content.errors };
        list.push(finding);
    }
}

impl Decoder {
    /// Moves a mistake to the key of its field, even if the value begins further down, or to its list item. A mistake
    /// about a missing field moves to the nearest parent.
    fn relocate(&mut self, object: &Node, path: &Path<'_>) {
        if self.errors.is_empty() && self.warnings.is_empty() {
            return;
        }
        let lines = Lines::of(object, path);
        for issue in self.errors.iter_mut().chain(&mut self.warnings) {
            issue.line = lines.nearest(&issue.field).unwrap_or(issue.line.max(object.line));
        }
    }
}

/// The type of an object; items of a typed list may omit it.
fn type_meta<'n>(
    node: &'n Node,
    path: &Path<'_>,
    implied: Option<TypeMeta<'n>>,
    decoder: &mut Decoder,
) -> Option<TypeMeta<'n>> {
    let mut read = |key: &'static str| {
        let issue = |line, reason: String| Issue {
            line,
            flaw: Flaw::WrongKind,
            field: path.key(key).to_string(),
            reason,
            hint: None,
        };
        match node.get(key) {
            Some(field) => match field.text() {
                Some(text) if !text.is_empty() => Some(Some(text)),
                _ => {
                    decoder.errors.push(issue(field.line, format!("must be text, not {}", field.in_words())));
                    None
                }
            },
            None if implied.is_some() => Some(None),
            None => {
                decoder.errors.push(issue(node.line, "is missing".to_owned()));
                None
            }
        }
    };
    let (api_version, kind) = (read("apiVersion"), read("kind"));
    let (api_version, kind) = (api_version?, kind?);
    let (group, version) = match (api_version, implied) {
        (Some(text), _) => text.split_once('/').unwrap_or(("", text)),
        (None, Some(implied)) => (implied.group, implied.version),
        (None, None) => return None,
    };
    Some(TypeMeta { group, version, kind: kind.or(implied.map(|implied| implied.kind))? })
}

const NETWORKING: &str = "networking.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";

/// The values of an object of which mistakes do not matter.
fn plain(node: &Node, path: &Path<'_>, mut decoder: Decoder) -> serde_json::Value {
    decoder.read(node, path)
}

fn route(meta: TypeMeta<'_>) -> Route {
    match (meta.group, meta.version, meta.kind) {
        ("", "v1", "Pod") => Route::Read { kind: Kind::Pod, legacy: false },
        ("", "v1", "Namespace") => Route::Read { kind: Kind::Namespace, legacy: false },
        (NETWORKING, "v1", "NetworkPolicy") => Route::Read { kind: Kind::NetworkPolicy, legacy: false },
        ("extensions", "v1beta1", "NetworkPolicy") => Route::Read { kind: Kind::NetworkPolicy, legacy: true },
        ("", "v1", "Service") => Route::Service,
        ("", "v1", "ServiceList") => Route::ListOf { group: "", version: "v1", kind: "Service" },
        (DISCOVERY, "v1", "EndpointSlice") => Route::EndpointSlice,
        (DISCOVERY, "v1", "EndpointSliceList") => {
            Route::ListOf { group: DISCOVERY, version: "v1", kind: "EndpointSlice" }
        }
        ("", "v1", "List") => Route::List,
        ("", "v1", "PodList") => Route::ListOf { group: "", version: "v1", kind: "Pod" },
        ("", "v1", "NamespaceList") => Route::ListOf { group: "", version: "v1", kind: "Namespace" },
        (NETWORKING, "v1", "NetworkPolicyList") => {
            Route::ListOf { group: NETWORKING, version: "v1", kind: "NetworkPolicy" }
        }
        ("extensions", "v1beta1", "NetworkPolicyList") => {
            Route::ListOf { group: "extensions", version: "v1beta1", kind: "NetworkPolicy" }
        }
        _ => workload_route(meta).or_else(|| mistaken(meta)).unwrap_or(Route::Ignore),
    }
}

/// A workload, of any version of its group: the position of its pod template has never changed.
fn workload_route(meta: TypeMeta<'_>) -> Option<Route> {
    let (singular, is_list) = match meta.kind.strip_suffix("List") {
        Some(singular) => (singular, true),
        None => (meta.kind, false),
    };
    let kind = WorkloadKind::ALL.into_iter().find(|kind| kind.name() == singular)?;
    let group = kind.group();
    if meta.group != group && !(meta.group == "extensions" && group == "apps") {
        return None;
    }
    Some(if is_list { Route::ListOf { group, version: "v1", kind: kind.name() } } else { Route::Workload(kind) })
}

/// Whether an API group is not Kubernetes' own, so that a controller may create pods for its objects.
fn is_custom(group: &str) -> bool {
    const OF_ADD_ONS: [&str; 3] = ["gateway.networking.k8s.io", "snapshot.storage.k8s.io", "metrics.k8s.io"];
    group.contains('.') && (!group.ends_with(".k8s.io") || OF_ADD_ONS.contains(&group))
}

/// Whether no command reads this kind, and it is not a misspelling of one that is read.
fn is_other_kind(kind: &str) -> bool {
    let singular = kind.strip_suffix("List").unwrap_or(kind);
    let read = ["Pod", "Namespace", "NetworkPolicy", "List"];
    let mut workloads = WorkloadKind::ALL.into_iter().map(WorkloadKind::name);
    !singular.is_empty() && !workloads.any(|name| name == singular) && nearest(singular, read).is_none()
}

/// A type that no API server has, but close to one that is read here.
fn mistaken(meta: TypeMeta<'_>) -> Option<Route> {
    let written =
        if meta.group.is_empty() { meta.version.to_owned() } else { format!("{}/{}", meta.group, meta.version) };
    let singular = meta.kind.strip_suffix("List").unwrap_or(meta.kind);
    let expected = match singular {
        "Pod" | "Namespace" | "List" if matches!(meta.group, "" | "core") => "v1",
        "NetworkPolicy" if matches!(meta.group, "" | "core" | "networking" | NETWORKING | "extensions" | "apps") => {
            "networking.k8s.io/v1"
        }
        _ => return misspelt_kind(meta),
    };
    Some(Route::Wrong {
        field: "apiVersion",
        reason: format!("there is no {} in {written}", meta.kind),
        hint: Some(format!("write {expected}")),
    })
}

/// A misspelled kind of its group.
fn misspelt_kind(meta: TypeMeta<'_>) -> Option<Route> {
    let kinds: &[&str] = match (meta.group, meta.version) {
        ("", "v1") => &["Pod", "PodList", "Namespace", "NamespaceList", "List"],
        (NETWORKING, "v1") => &["NetworkPolicy", "NetworkPolicyList"],
        _ => return None,
    };
    let others = ["Node", "NodeList", "Ingress", "IngressList", "IngressClass", "Secret", "Binding", "Event"];
    if others.contains(&meta.kind) {
        return None;
    }
    let meant = nearest(meta.kind, kinds.iter().copied())?;
    Some(Route::Wrong {
        field: "kind",
        reason: format!("there is no kind {:?}", meta.kind),
        hint: Some(format!("did you mean {meant}?")),
    })
}
