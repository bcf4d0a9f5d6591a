//! Rules: peers and ports.

use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::input::{
    Direction, IpBlock, LabelSelector, NamespaceScope, Peer, Peers, Port, Ports, Protocol, Rule,
};

use super::decoder::{Decoder, Mode};
use super::path::Path;
use super::schema::{EGRESS_RULE, INGRESS_RULE, IP_BLOCK, PEER, PORT};
use super::{cidr, defaults, syntax};
use crate::finding::Flaw;
use crate::node::{Node, Value};

/// How protocol names are spelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtocolCase {
    /// `TCP`, as in `v1`.
    Upper,
    /// Any case, as in old `extensions/v1beta1` manifests.
    Any,
}

impl Decoder {
    /// Reads a rule. A mistake outside its peers and ports makes it match nothing.
    pub(super) fn rule(&mut self, node: &Node, path: &Path<'_>, direction: Direction, case: ProtocolCase) -> Rule {
        let (schema, peers_key) = match direction {
            Direction::Ingress => (&INGRESS_RULE, "from"),
            Direction::Egress => (&EGRESS_RULE, "to"),
        };
        if node.is_null() {
            self.warn(
                Flaw::NullValue,
                node.line,
                path,
                "is empty; the API server reads it as {}, which allows everything",
            );
        }
        let ((), known) = self.part(|decoder| decoder.fields(node, path, schema));
        self.warn_of_null(node, peers_key, path, "the rule allows every peer");
        self.warn_of_null(node, "ports", path, "the rule allows every port");
        let peers_path = &path.key(peers_key);
        let ports_path = &path.key("ports");
        let (peers, listed) = self.part_list(node, peers_key, peers_path, Self::peer);
        let peers = if listed && known {
            non_empty(peers).map_or(Peers::Any, Peers::Of)
        } else {
            Peers::Of(vec![Peer::Unmatchable])
        };
        let (ports, listed) =
            self.part_list(node, "ports", ports_path, |decoder, item, path| decoder.port(item, path, case));
        let ports =
            if listed { non_empty(ports).map_or(Ports::Any, Ports::Of) } else { Ports::Of(vec![Port::Unmatchable]) };
        Rule { peers, ports }
    }

    /// Reads a list, and returns whether it was one. A missing list is empty.
    fn part_list<T>(
        &mut self,
        node: &Node,
        key: &str,
        path: &Path<'_>,
        decode: impl Fn(&mut Self, &Node, &Path<'_>) -> T,
    ) -> (Vec<T>, bool) {
        let (items, listed) = self.part(|decoder| decoder.items(node, key, path));
        let read = items.iter().enumerate().map(|(index, item)| decode(self, item, &path.index(index))).collect();
        (read, listed)
    }

    fn peer(&mut self, node: &Node, path: &Path<'_>) -> Peer {
        let (peer, sound) = self.part(|decoder| decoder.peer_terms(node, path));
        peer.filter(|_| sound).unwrap_or(Peer::Unmatchable)
    }

    fn peer_terms(&mut self, node: &Node, path: &Path<'_>) -> Option<Peer> {
        let ((), known) = self.part(|decoder| decoder.fields(node, path, &PEER));
        let pods = node.get("podSelector").map(|field| self.selector(field, &path.key("podSelector")));
        let namespaces =
            node.get("namespaceSelector").map(|field| self.selector(field, &path.key("namespaceSelector")));
        let block = node.get("ipBlock").map(|field| self.ip_block(field, &path.key("ipBlock")));
        if let Some(block) = block {
            if pods.is_some() || namespaces.is_some() {
                let hint = "write two items, one with ipBlock and one with the selectors".to_owned();
                self.error(node.line, path, "must not have both ipBlock and a selector", Some(hint));
            }
            return block.map(Peer::IpBlock);
        }
        let scope = match (&pods, namespaces) {
            (_, Some(selector)) => NamespaceScope::Matching(selector),
            (Some(_), None) => NamespaceScope::Own,
            (None, None) => {
                if known {
                    self.no_peer(node, path);
                }
                return None;
            }
        };
        for key in ["podSelector", "namespaceSelector"] {
            self.warn_of_null(node, key, path, &format!("{key}: {{}} would select all"));
            // Not in spec.podSelector: there it isolates more, and recipes do so on purpose.
            if let Some(selector) = node.get(key) {
                self.warn_of_null(selector, "matchLabels", &path.key(key), "it matches every label");
                self.warn_of_null(selector, "matchExpressions", &path.key(key), "it matches every label");
            }
        }
        Some(Peer::Pods { namespaces: scope, pods: pods.unwrap_or_else(LabelSelector::everything) })
    }

    /// Reports a peer without terms; a null peer was probably meant as `{}`.
    fn no_peer(&mut self, node: &Node, path: &Path<'_>) {
        let null = ["podSelector", "namespaceSelector", "ipBlock"].into_iter().find(|key| node.entry(key).is_some());
        let hint = match null {
            Some(key) if key != "ipBlock" => {
                format!("{key} is empty, which means the same as missing: write {key}: {{}} to select all")
            }
            _ => {
                "leave out the list to allow any peer; write podSelector: {} for the pods of this namespace".to_owned()
            }
        };
        self.missing(node.line, path, "must have a podSelector, a namespaceSelector or an ipBlock", Some(hint));
    }

    fn ip_block(&mut self, node: &Node, path: &Path<'_>) -> Option<IpBlock> {
        self.fields(node, path, &IP_BLOCK);
        let cidr_path = &path.key("cidr");
        let cidr = match self.text(node, "cidr", path) {
            Some("") | None if is_mapping(node) => {
                if node.get("cidr").is_none_or(|field| field.text() == Some("")) {
                    self.missing(node.line, cidr_path, "is missing", None);
                }
                None
            }
            Some(text) => self.block(text, node.get("cidr").map_or(node.line, |field| field.line), cidr_path),
            None => None,
        };
        self.warn_of_null(node, "except", path, "the whole block matches");
        let path = &path.key("except");
        let mut except = Vec::new();
        for (index, item) in self.items(node, "except", path).iter().enumerate() {
            let path = &path.index(index);
            let Some(text) = self.text_of(item, path) else { continue };
            let Some(block) = self.block(text, item.line, path) else { continue };
            if self.mode == Mode::Manifest
                && let Some(cidr) = cidr
                && !is_strictly_within(block, cidr)
            {
                let hint = (block == cidr).then(|| "leave the whole ipBlock out".to_owned());
                self.flaw(
                    Flaw::ExceptOutside,
                    item.line,
                    path,
                    format!("{block} must be a smaller block inside of {cidr}"),
                    hint,
                );
            }
            except.push(block);
        }
        cidr.map(|cidr| IpBlock { cidr, except })
    }

    fn block(&mut self, text: &str, line: usize, path: &Path<'_>) -> Option<IpNet> {
        let refused = match cidr::strict(text) {
            Ok(block) => return Some(block),
            Err(refused) => refused,
        };
        // API servers before 1.36 accept such blocks, and later ones keep them, so a dump of a cluster may have them.
        let block = cidr::sloppy(text);
        match block {
            None => self.flaw(Flaw::InvalidBlock, line, path, format!("{text:?} {}", refused.reason), refused.hint),
            Some(read) => {
                let reason = format!(
                    "{text:?} {}: Kubernetes 1.36 and later refuse it in a new policy; read as {read}",
                    refused.reason
                );
                self.warn(Flaw::LegacyBlock, line, path, reason);
                if let Some(warning) = self.warnings.last_mut() {
                    warning.hint = refused.hint;
                }
            }
        }
        block
    }

    fn port(&mut self, node: &Node, path: &Path<'_>, case: ProtocolCase) -> Port {
        let (port, sound) = self.part(|decoder| decoder.port_terms(node, path, case));
        port.filter(|_| sound).unwrap_or(Port::Unmatchable)
    }

    fn port_terms(&mut self, node: &Node, path: &Path<'_>, case: ProtocolCase) -> Option<Port> {
        if node.is_null() {
            self.warn(
                Flaw::NullValue,
                node.line,
                path,
                "is empty; the API server reads it as {}, which is every TCP port",
            );
        }
        self.fields(node, path, &PORT);
        if !is_mapping(node) {
            return None;
        }
        self.warn_of_null(node, "port", path, "it means every port of the protocol");
        self.warn_of_null(node, "protocol", path, "it means TCP");
        self.warn_of_null(node, "endPort", path, "it means one port");
        let protocol = self.protocol(node, path, case);
        let end = self.port_number(node, "endPort", path);
        let Some(field) = node.get("port") else {
            if let Some(end) = node.get("endPort") {
                self.error(end.line, &path.key("endPort"), "needs a port: the first of the range", None);
            }
            return Some(Port::All(protocol?));
        };
        if let Value::String(name) = &field.value {
            if let Some(end) = node.get("endPort") {
                self.error(end.line, &path.key("endPort"), "needs a numeric port: the first of the range", None);
            }
            if let Some(reason) = syntax::port_name(name) {
                self.error(field.line, &path.key("port"), format!("the port name {name:?} {reason}"), port_hint(name));
            }
            return Some(Port::Named { protocol: protocol?, name: Arc::from(&**name) });
        }
        let first = self.port_number(node, "port", path)?;
        let last = if node.get("endPort").is_some() { end? } else { first };
        if last < first {
            let line = node.get("endPort").map_or(node.line, |end| end.line);
            self.error(line, &path.key("endPort"), format!("must not be below port ({last} < {first})"), None);
        }
        Some(Port::Range { protocol: protocol?, first, last })
    }

    fn port_number(&mut self, node: &Node, key: &str, path: &Path<'_>) -> Option<u16> {
        let field = node.get(key)?;
        let path = &path.key(key);
        let hint = field.text().and_then(port_hint);
        let number = self.whole_number(field, path, hint)?;
        let port = syntax::port_number(number);
        if port.is_none() {
            self.error(field.line, path, format!("{number} is not a port: 1 to 65535"), None);
        }
        port
    }

    /// `protocol` with its default.
    fn protocol(&mut self, node: &Node, path: &Path<'_>, case: ProtocolCase) -> Option<Protocol> {
        let Some(field) = node.get("protocol") else { return Some(defaults::PROTOCOL) };
        let path = &path.key("protocol");
        let name = self.text_of(field, path)?;
        self.protocol_named(name, path, case)
    }

    /// The protocol with this name.
    pub(super) fn protocol_named(&mut self, name: &str, path: &Path<'_>, case: ProtocolCase) -> Option<Protocol> {
        let any_case = Protocol::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name));
        let exact = any_case.filter(|protocol| case == ProtocolCase::Any || protocol.to_string() == name);
        if exact.is_none() {
            let hint = any_case.map(|protocol| format!("did you mean {protocol}?"));
            self.error(0, path, format!("{name:?} is not TCP, UDP or SCTP"), hint);
        }
        exact
    }
}

fn is_mapping(node: &Node) -> bool {
    matches!(node.value, Value::Mapping(_) | Value::Null)
}

fn non_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    if items.is_empty() { None } else { Some(items) }
}

fn is_strictly_within(inner: IpNet, outer: IpNet) -> bool {
    outer.contains(&inner) && outer.prefix_len() < inner.prefix_len()
}

/// What to write for a quoted port, or for a range written as text.
fn port_hint(text: &str) -> Option<String> {
    if text.parse::<u16>().is_ok() {
        return Some(format!("write {text} without quotes; text is the name of a container port"));
    }
    let (first, last) = text.split_once(['-', ':'])?;
    let numbers = first.trim().parse::<u16>().is_ok() && last.trim().parse::<u16>().is_ok();
    numbers.then(|| format!("write port: {} and endPort: {}", first.trim(), last.trim()))
}
