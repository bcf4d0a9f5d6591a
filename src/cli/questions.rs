//! The verbs that answer questions: `explain`, `diff`, `graph`, `pods`, `list`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Source, TraceOutput, Untracked, node_address};

/// `palisade explain`.
#[derive(Debug, Subcommand)]
pub(crate) enum Explain {
    /// Why a flow is allowed or denied, and what one change would allow it
    ///
    /// Exit status: 0 if it is allowed, 1 if it is denied, 2 if it could not be judged or something could not be read.
    Flow(ExplainFlowArgs),
    /// What isolates a pod, who may reach it and whom it may reach
    Pod(ExplainPodArgs),
    /// What a policy selects, what it allows, and what of that nothing else allows
    Policy(ExplainPolicyArgs),
    /// Which policies, rules and pods are behind a chain, a set, or a line of `nft list` or `nft monitor trace`
    Rule(ExplainRuleArgs),
}

/// `palisade explain flow`.
#[derive(Debug, Args)]
pub(crate) struct ExplainFlowArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The client: namespace/pod, an IP, or node/NAME
    pub(crate) from: String,
    /// The server: namespace/pod or an IP; its port may follow after a colon
    pub(crate) to: String,
    /// The server's port after Service translation, or a port name that the server declares; required except for ICMP
    pub(crate) port: Option<String>,
    /// TCP, UDP, SCTP or ICMP
    #[arg(long, default_value = "TCP")]
    pub(crate) protocol: String,
    /// IPv4 or IPv6; by default the first family of the client that the server also has
    #[arg(long)]
    pub(crate) family: Option<String>,
    /// Judge the flow as one whose packets conntrack does not track, by an agent with this setting
    #[arg(long, value_name = "HOW")]
    pub(crate) untracked: Option<Untracked>,
    /// The format of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TraceOutput,
    /// An extra IP of a node, as NAME=IP; repeatable
    #[arg(long = "node-address", value_name = "NAME=IP", value_parser = node_address)]
    pub(crate) node_addresses: Vec<(String, IpAddr)>,
}

/// `palisade explain pod`.
#[derive(Debug, Args)]
pub(crate) struct ExplainPodArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The pod, as namespace/pod
    pub(crate) pod: String,
    /// The format of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TraceOutput,
}

/// `palisade explain policy`.
#[derive(Debug, Args)]
pub(crate) struct ExplainPolicyArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The policy, as namespace/policy
    pub(crate) policy: String,
    /// The format of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TraceOutput,
}

/// `palisade explain rule`.
#[derive(Debug, Args)]
pub(crate) struct ExplainRuleArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// A name, or a pasted line; several words are one text
    #[arg(required = true, num_args = 1.., value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// Only the ruleset of this node
    #[arg(long, value_name = "N")]
    pub(crate) node: Option<String>,
    /// The format of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TraceOutput,
}

/// `palisade diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Manifests before and after: files or directories; only those after with --live or --git, before with --apply
    #[arg(required = true, num_args = 1..=2, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Also read the subdirectories of directories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) of: OneNamespace,
    /// Before is a cluster, after is the same with the policies and namespaces of the manifests applied
    #[arg(long, conflicts_with = "git")]
    pub(crate) live: bool,
    /// After is the same as before with these manifests applied: an object replaces the one with its name; repeatable
    #[arg(long, value_name = "PATH", conflicts_with_all = ["live", "git"])]
    pub(crate) apply: Vec<PathBuf>,
    /// Before is what this git revision has at the path
    #[arg(long, value_name = "REV")]
    pub(crate) git: Option<String>,
    /// A kubeconfig, for --live; by default $KUBECONFIG, ~/.kube/config or the cluster that this runs in
    #[arg(long, value_name = "F", requires = "live")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; by default its current one
    #[arg(long, value_name = "NAME", requires = "live")]
    pub(crate) context: Option<String>,
    /// Let every pod reach its own node, whatever its egress policies say
    #[arg(long)]
    pub(crate) allow_egress_to_own_node: bool,
    /// The format of the difference
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: DiffOutput,
}

/// The flows that are compared.
#[derive(Debug, Args)]
pub(crate) struct OneNamespace {
    /// The namespace of names without one; only flows from or to it are compared
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// All namespaces; the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}

/// The format of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffOutput {
    /// A line for each pair of ends
    Text,
    /// An object with changes, added and removed
    Json,
    /// The same as YAML
    Yaml,
    /// Tables for a comment on a pull request
    Markdown,
    /// A page in one file, with a picture of what opens and closes
    Html,
}

/// `palisade graph`.
#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// All namespaces; the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Only what this workload may reach and who may reach it, as namespace/workload
    #[arg(long, value_name = "WORKLOAD")]
    pub(crate) focus: Option<String>,
    /// The format of the graph
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: GraphOutput,
    /// An extra IP of a node, as NAME=IP; repeatable
    #[arg(long = "node-address", value_name = "NAME=IP", value_parser = node_address)]
    pub(crate) node_addresses: Vec<(String, IpAddr)>,
}

/// The format of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphOutput {
    /// A table
    Text,
    /// An object with the tables of the page
    Json,
    /// The same as YAML
    Yaml,
    /// Graphviz
    Dot,
    /// A flowchart of Mermaid, which Markdown on GitHub shows
    Mermaid,
    /// A picture
    Svg,
    /// A page in one file, with the picture, a search, and what-if
    Html,
}

/// `palisade pods`.
#[derive(Debug, Args)]
pub(crate) struct PodsArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// All namespaces; the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Only pods that this selector matches, as for `kubectl get -l`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only pods that no policy isolates in one direction or both
    #[arg(long)]
    pub(crate) open: bool,
    /// The format of the list
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: PodsOutput,
}

/// The format of a list of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PodsOutput {
    /// A table
    Text,
    /// The same with nodes, IPs and the names of all policies
    Wide,
    /// An array of pods
    Json,
    /// The same as YAML
    Yaml,
}

/// `palisade list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only the chains and elements of this pod, as namespace/pod, or of this IP
    #[arg(value_name = "POD")]
    pub(crate) of: Option<String>,
}
