//! `palisade graph`: who may talk to whom, as text, as a picture, and as a page.

mod dot;
mod json;
pub(crate) mod layout;
mod mermaid;
pub(crate) mod page;
mod picture;
pub(crate) mod svg;
mod text;

use palisade_analysis::graph::{End, Graph, Link, Scope, graph, links};

use crate::cli::{GraphArgs, GraphOutput};
use crate::output::{self, Failure};
use crate::source;
use crate::trace::request::{key, unknown};

/// Reads the objects, and prints.
pub(crate) fn run(arguments: &GraphArgs) -> Result<(), Failure> {
    let GraphArgs { source, focus, output, node_addresses, .. } = arguments;
    let state = source::read(source)?;
    let facts = source::facts(source.allow_egress_to_own_node, node_addresses);
    let progress = output::Progress::of("looking for the links");
    let graph = graph(&state, &facts);
    let namespace = source.how.namespace.as_deref();
    let scope = match (focus, namespace) {
        (Some(focus), _) => Scope::Workload(workload(&graph, focus, namespace)?),
        (None, Some(namespace)) => Scope::Namespace(namespace),
        (None, None) => Scope::All,
    };
    let links = links(&graph, scope);
    drop(progress);
    let shown = Shown { graph: &graph, links: &links, scope };
    output::block(&match output {
        GraphOutput::Text => text::text(&shown),
        GraphOutput::Json => format!("{}\n", json::json(&shown, &facts, &title(source))),
        GraphOutput::Yaml => output::yaml(&json::json(&shown, &facts, &title(source))),
        GraphOutput::Dot => dot::dot(&shown),
        GraphOutput::Mermaid => mermaid::mermaid(&shown),
        GraphOutput::Svg => svg::file(&picture::picture(&shown)),
        GraphOutput::Html => {
            let data = json::json(&shown, &facts, &title(source)).to_string();
            page::graph(&svg::inline(&picture::picture(&shown)), &data)
        }
    })
}

/// What is shown of the tables.
struct Shown<'a> {
    graph: &'a Graph,
    links: &'a [Link],
    scope: Scope<'a>,
}

impl Shown<'_> {
    /// The workloads that are asked for, and those that links lead to.
    fn workloads(&self) -> Vec<usize> {
        let ends = || self.links.iter().flat_map(|link| [&link.from, &link.to]);
        let is_shown = |number: usize| {
            let Some(vertex) = self.graph.workloads.get(number) else { return false };
            let is_asked = match self.scope {
                Scope::All => true,
                Scope::Namespace(own) => &*vertex.namespace == own,
                Scope::Workload(own) => own == number,
            };
            is_asked || ends().any(|end| *end == End::Workload(number))
        };
        (0..self.graph.workloads.len()).filter(|number| is_shown(*number)).collect()
    }

    /// The name of a workload.
    fn name(&self, workload: usize) -> &str {
        self.graph.workloads.get(workload).map_or("", |vertex| vertex.name.as_str())
    }

    /// The name of a workload without its namespace.
    fn short(&self, workload: usize) -> &str {
        let name = self.name(workload);
        name.split_once('/').map_or(name, |(_, rest)| rest)
    }

    /// The name of an end: `shop/web`, `shop/*`, `shop/* but db`, `*/*`, `anyone`, `10.0.0.0/8`.
    fn end(&self, end: &End) -> String {
        match end {
            End::Workload(number) => self.name(*number).to_owned(),
            End::Namespace(namespace, but) => {
                let but: Vec<_> = but.iter().map(|number| self.short(*number)).collect();
                let but = if but.is_empty() { String::new() } else { format!(" but {}", but.join(", ")) };
                format!("{namespace}/*{but}")
            }
            End::Every => "*/*".to_owned(),
            End::Anyone => "anyone".to_owned(),
            End::Block(block) => self.block(block),
            End::Blocks(count) => format!("{count} ipBlocks"),
        }
    }

    /// A block, and the node whose address it is.
    fn block(&self, block: &palisade_policy::input::IpBlock) -> String {
        let nodes = self.graph.nodes.iter();
        let is_one = block.cidr.prefix_len() == block.cidr.max_prefix_len();
        let node = nodes.into_iter().find(|(_, node)| is_one && node.addresses.contains(&block.cidr.addr()));
        match (node, block.except.as_slice()) {
            (Some((name, _)), _) => format!("{} (node {name})", block.cidr),
            (None, []) => block.cidr.to_string(),
            (None, [except]) => format!("{} except {except}", block.cidr),
            (None, [first, rest @ ..]) => format!("{} except {first} and {} more", block.cidr, rest.len()),
        }
    }

    /// How a workload is open: `open`, `open in`, `open out`; `None` if it is isolated in both directions.
    fn mark(&self, workload: usize) -> Option<&'static str> {
        let vertex = self.graph.workloads.get(workload)?;
        match vertex.sides.each_ref().map(palisade_analysis::graph::Side::is_isolated) {
            [true, true] => None,
            [true, false] => Some("open in"),
            [false, true] => Some("open out"),
            [false, false] => Some("open"),
        }
    }
}

/// The workloads that an end lacks, for machines.
fn but(end: &End) -> Vec<String> {
    match end {
        End::Namespace(_, but) => but.iter().map(|number| id(&End::Workload(*number))).collect(),
        _ => Vec::new(),
    }
}

/// An end of a graph: one for each set of workloads.
fn vertex(end: &End) -> String {
    std::iter::once(id(end)).chain(but(end)).collect::<Vec<_>>().join("-")
}

/// An end for machines: `w0`, `ns:shop`, `every`, `anyone`, `block:10.0.0.0/8`, `blocks`.
fn id(end: &End) -> String {
    match end {
        End::Workload(number) => format!("w{number}"),
        End::Namespace(namespace, _) => format!("ns:{namespace}"),
        End::Every => "every".to_owned(),
        End::Anyone => "anyone".to_owned(),
        End::Block(block) => {
            let nets: Vec<_> = std::iter::once(&block.cidr).chain(&block.except).map(ToString::to_string).collect();
            format!("block:{}", nets.join("-"))
        }
        End::Blocks(_) => "blocks".to_owned(),
    }
}

/// The workload of this name, as `namespace/name` or, with `-n`, as `name`.
fn workload(graph: &Graph, text: &str, namespace: Option<&str>) -> Result<usize, Failure> {
    let key = key(text, namespace);
    let name = key.to_string();
    let is_it = |own: &str| own == name || own.strip_prefix(&name).is_some_and(|rest| rest.starts_with(" (pod "));
    let found = graph.workloads.iter().position(|vertex| is_it(&vertex.name));
    let names = graph.workloads.iter().map(|vertex| vertex.name.clone());
    found.ok_or_else(|| Failure::new(unknown("workload", &key, names)))
}

/// What was read.
fn title(source: &crate::cli::Source) -> String {
    let paths: Vec<_> = source.paths.iter().map(|path| path.display().to_string()).collect();
    match (paths.is_empty(), &source.context) {
        (false, _) => paths.join(", "),
        (true, Some(context)) => format!("cluster {context}"),
        (true, None) => "cluster".to_owned(),
    }
}
