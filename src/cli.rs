//! The command line.

mod check;
mod questions;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, Args, Command, CommandFactory as _, Parser, Subcommand, ValueEnum, ValueHint};
use palisade_ruleset::cache::Slice;
use palisade_watch::Selection;

pub(crate) use check::{CheckArgs, CheckOutput, FailOn};
pub(crate) use questions::{
    DiffArgs, DiffOutput, Explain, ExplainFlowArgs, ExplainPodArgs, ExplainPolicyArgs, ExplainRuleArgs, GraphArgs,
    GraphOutput, ListArgs, PodsArgs, PodsOutput,
};

/// Enforces Kubernetes NetworkPolicy with nftables.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The command line, as it is parsed and described.
pub(crate) fn command() -> Command {
    // A verb without other operands takes `-f *.yaml`.
    let command = Cli::command().mut_subcommand("trace", |trace| trace.mut_arg("paths", |paths| paths.num_args(1..)));
    hinted(command)
}

/// The command with names that shells do not complete to files; paths have a hint of their own.
fn hinted(command: Command) -> Command {
    let hint = |arg: Arg| match arg.get_value_hint() {
        ValueHint::Unknown if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        _ => arg,
    };
    command.mut_args(hint).mut_subcommands(hinted)
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Enforce the policies of a cluster, or of a directory of manifests, on this node
    Agent(AgentArgs),
    /// Print the ruleset of a node, from manifests
    ///
    /// Exit status: 0 if the ruleset was printed, 2 if something could not be read.
    Render(RenderArgs),
    /// Say whether the policies of manifests or of a cluster allow a flow, each flow in a file or of conntrack, and why
    ///
    /// Exit status: 0 if every flow is allowed, 1 if one is denied, 2 if one could not be judged or something could not
    /// be read.
    Trace(TraceArgs),
    /// Explain a flow, a pod, a policy or a line of the table: what decides, what misses it by one term, and where a node has it
    #[command(subcommand)]
    Explain(Explain),
    /// Say which flows a change of manifests opens and closes
    ///
    /// Exit status: 0 if no flow changes, 1 if one does, 2 if something could not be read.
    Diff(DiffArgs),
    /// Show who may talk to whom: a table, a picture, or a page in one file
    Graph(GraphArgs),
    /// List pods and the policies that isolate them
    Pods(PodsArgs),
    /// Print the ruleset that this node's kernel has, whole or for one pod
    List(ListArgs),
    /// Find mistakes in policies, in manifests or in a cluster
    ///
    /// Exit status: 0 without findings of the severity in --fail-on or worse, 1 with such findings, 2 if something could
    /// not be read.
    Check(CheckArgs),
    /// Remove the ruleset from this node's kernel
    Cleanup(CleanupArgs),
    /// Demonstrate enforcement on real packets, in network namespaces, without a cluster
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Print a script that completes this command line in a shell
    Completions(CompletionsArgs),
    /// Print the man page of the program, or of a verb: palisade man trace | man -l -
    Man(ManArgs),
    /// Print the version
    Version,
}

/// `palisade agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// The node to enforce: the `spec.nodeName` of its pods
    #[arg(long, env = "NODE_NAME", value_name = "N", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node: String,
    /// A kubeconfig; by default $KUBECONFIG, ~/.kube/config or the cluster that the agent runs in
    #[arg(long, value_name = "F", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; by default its current one
    #[arg(long, value_name = "NAME", conflicts_with = "manifests")]
    pub(crate) context: Option<String>,
    /// A directory of manifests to enforce instead of a cluster; the agent follows its changes
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) manifests: Option<PathBuf>,
    /// Where to serve /livez, /readyz and /metrics; `[::]` means every address, IPv4 included
    #[arg(long, value_name = "ADDR", default_value = "[::]:9440")]
    pub(crate) listen: SocketAddr,
    /// The format of the log on stderr; RUST_LOG sets the level
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Let every pod reach its own node, whatever its egress policies say
    #[arg(long)]
    pub(crate) allow_egress_to_own_node: bool,
    /// Honour the namespace annotation net.beta.kubernetes.io/network-policy with DefaultDeny, as before Kubernetes 1.7
    #[arg(long)]
    pub(crate) legacy_namespace_isolation: bool,
    /// What to do with established flows when policies change
    #[arg(long, value_name = "HOW", default_value = "judge")]
    pub(crate) established: Established,
    /// What to do with untracked packets of pods that are isolated for egress
    #[arg(long, value_name = "HOW", default_value = "drop")]
    pub(crate) untracked: Untracked,
    /// What to do with traffic of pods whose IP is not known yet, while an isolated pod of this node starts
    #[arg(long, value_name = "HOW", default_value = "hold")]
    pub(crate) new_pods: NewPods,
    /// The bits of `ct mark` that remember allowed flows, as a mask; `off` judges every packet by all rules
    #[arg(long, value_name = "MASK", default_value = "0xffff0000")]
    pub(crate) verdict_cache: VerdictCache,
    /// Turn on netfilter for the bridges of pods, or only check it
    #[arg(long, value_name = "HOW", default_value = "set")]
    pub(crate) bridge_netfilter: BridgeNetfilter,
    /// The budget of one policy, in units of one ipBlock; the policies of a namespace may select four pod IPs for each
    /// unit. A policy above it isolates its pods and allows nothing
    #[arg(long, value_name = "UNITS", default_value_t = palisade_policy::input::Budget::DEFAULT.policy.0)]
    pub(crate) policy_budget: u64,
    /// The agent's own pod, as NAMESPACE/NAME: a list of pods without it is doubted
    #[arg(long, env = "POD", value_name = "POD")]
    pub(crate) pod: Option<String>,
}

/// The bits of `ct mark` that remember allowed flows, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VerdictCache(pub(crate) Option<Slice>);

impl FromStr for VerdictCache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        let digits = text.strip_prefix("0x").ok_or("neither `off` nor a hexadecimal mask, such as 0xffff0000")?;
        let mask = u32::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
        Slice::new(mask).map(|slice| Self(Some(slice))).map_err(|error| error.to_string())
    }
}

impl fmt::Display for VerdictCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(slice) => write!(f, "{:#010x}", slice.mask()),
            None => f.write_str("off"),
        }
    }
}

/// What to do about bridges whose packets bypass netfilter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BridgeNetfilter {
    /// Turn on netfilter for them
    Set,
    /// Change nothing; the agent is not ready while netfilter is off for one
    Check,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What to do with established flows when policies change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Established {
    /// Judge every packet again: a revoked flow stops at its next packet
    Judge,
    /// Let them continue until they end
    Keep,
}

impl From<Established> for palisade_ruleset::render::Established {
    fn from(established: Established) -> Self {
        match established {
            // Without a cache, the agent's engine turns this into judging by all rules.
            Established::Judge => Self::Remember,
            Established::Keep => Self::Keep,
        }
    }
}

/// What to do with packets that a foreign rule keeps out of conntrack, if their pod is isolated for egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Untracked {
    /// Drop them
    Drop,
    /// Pass those that an egress rule allows by port and ipBlock; for nodes with NodeLocal DNSCache
    Judge,
}

/// What to do with traffic of IPs in this node's pod ranges that no known pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewPods {
    /// Drop it in the directions in which the starting pod is isolated
    Hold,
    /// Pass it until the IP is known
    Pass,
}

/// How to read manifests.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reading {
    /// Also read the subdirectories of directories
    #[arg(short = 'R', long, requires = "paths")]
    pub(crate) recursive: bool,
    /// The namespace of names without one
    #[arg(short, long, value_name = "NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) namespace: Option<String>,
    /// An object of a later -f replaces the one with its name of an earlier -f, as if each were applied in turn
    #[arg(long = "override", requires = "paths")]
    pub(crate) replace: bool,
}

impl Reading {
    /// These paths, read in this way.
    pub(crate) fn of(&self, paths: &[PathBuf]) -> Selection {
        let Self { recursive, namespace, replace } = self.clone();
        Selection { paths: paths.to_vec(), recursive, namespace, replace }
    }
}

/// The objects that a verb judges: those of manifests, with the pods that workloads create, or those of a cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct Source {
    /// Manifests: a file, a directory, or `-` for stdin; repeatable; without it, a cluster is read
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with = "kubeconfig")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: Reading,
    /// A kubeconfig; by default $KUBECONFIG, ~/.kube/config or the cluster that this runs in
    #[arg(long, value_name = "F")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; by default its current one
    #[arg(long, value_name = "NAME", conflicts_with = "paths")]
    pub(crate) context: Option<String>,
    /// Let every pod reach its own node, whatever its egress policies say
    #[arg(long)]
    pub(crate) allow_egress_to_own_node: bool,
    /// Honour the namespace annotation net.beta.kubernetes.io/network-policy with DefaultDeny, as before Kubernetes 1.7
    #[arg(long)]
    pub(crate) legacy_namespace_isolation: bool,
}

/// The objects that a verb reads.
#[derive(Debug, Args)]
pub(crate) struct Objects {
    /// Manifests: files, directories, or `-` for stdin
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: Reading,
    /// Let every pod reach its own node, whatever its egress policies say
    #[arg(long)]
    pub(crate) allow_egress_to_own_node: bool,
    /// Honour the namespace annotation net.beta.kubernetes.io/network-policy with DefaultDeny, as before Kubernetes 1.7
    #[arg(long)]
    pub(crate) legacy_namespace_isolation: bool,
}

/// `palisade render`.
#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    pub(crate) objects: Objects,
    /// The node whose ruleset to print
    #[arg(long, env = "NODE_NAME", value_name = "N", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node: String,
    /// What to do with established flows when policies change
    #[arg(long, value_name = "HOW", default_value = "judge")]
    pub(crate) established: Established,
    /// What to do with untracked packets of pods that are isolated for egress
    #[arg(long, value_name = "HOW", default_value = "drop")]
    pub(crate) untracked: Untracked,
    /// The format of the ruleset
    #[arg(short, long, value_name = "FORMAT", default_value = "nft")]
    pub(crate) output: RenderOutput,
}

/// The format of a printed ruleset.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RenderOutput {
    /// A script for `nft -f`
    Nft,
    /// JSON for `nft -j -f`
    Json,
}

/// The arguments of `palisade trace` that name many flows.
const OF_FILES: [&str; 2] = ["flows", "conntrack"];

/// `palisade trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The client: namespace/pod, an IP, or node/NAME
    #[arg(long, value_name = "X", required_unless_present_any = OF_FILES, conflicts_with_all = OF_FILES)]
    pub(crate) from: Option<String>,
    /// The server: namespace/pod or an IP; its port may follow after a colon
    #[arg(long, value_name = "Y", required_unless_present_any = OF_FILES, conflicts_with_all = OF_FILES)]
    pub(crate) to: Option<String>,
    /// The server's port after Service translation, or a port name that the server declares; required except for ICMP
    #[arg(long, conflicts_with_all = OF_FILES)]
    pub(crate) port: Option<String>,
    /// TCP, UDP, SCTP or ICMP
    #[arg(long, default_value = "TCP", conflicts_with_all = OF_FILES)]
    pub(crate) protocol: String,
    /// IPv4 or IPv6; by default the first family of X that Y also has
    #[arg(long, conflicts_with_all = OF_FILES)]
    pub(crate) family: Option<String>,
    /// A file of flows, one JSON object a line, such as {"from":"shop/web","to":"shop/db","port":80}; `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "conntrack")]
    pub(crate) flows: Option<PathBuf>,
    /// Judge the flow as one whose packets conntrack does not track, by an agent with this setting
    #[arg(long, value_name = "HOW")]
    pub(crate) untracked: Option<Untracked>,
    /// The flows that conntrack has: of this node's kernel, or those that `conntrack -L` printed to a file; `-` for stdin
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "untracked")]
    #[expect(clippy::option_option, reason = "the flag may be given without a file")]
    pub(crate) conntrack: Option<Option<PathBuf>>,
    /// The format of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TraceOutput,
    /// An extra IP of a node, as NAME=IP; repeatable
    #[arg(long = "node-address", value_name = "NAME=IP", value_parser = node_address)]
    pub(crate) node_addresses: Vec<(String, IpAddr)>,
}

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceOutput {
    /// For people
    Text,
    /// One JSON object for each flow
    Json,
    /// The same as YAML, one document for each flow
    Yaml,
}

/// `palisade completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `palisade man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The verb; by default the program
    #[arg(value_name = "VERB")]
    pub(crate) of: Option<String>,
}

/// `palisade cleanup`.
#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Then wait for a signal, so that a DaemonSet can run this
    #[arg(long)]
    pub(crate) stay: bool,
}

/// `palisade demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Wait for Enter before each step
    #[arg(long)]
    pub(crate) step: bool,
}

fn node_address(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("write it as NAME=IP")?;
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    Ok((name.to_owned(), address))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
