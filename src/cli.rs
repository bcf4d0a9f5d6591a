//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Enforces Kubernetes NetworkPolicy with nftables.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Enforce the policies of a cluster, or of a directory of manifests, on this node
    Agent(AgentArgs),
    /// Print the ruleset that a node would get from manifests
    Render(RenderArgs),
    /// Judge a flow, or a file of flows, by manifests, and say why
    Trace(TraceArgs),
    /// Find what is wrong with policies or probably not meant, in manifests or in a cluster
    ///
    /// Exit status 0 without findings, 1 with findings, 2 if something could not be read.
    Check(CheckArgs),
    /// Remove the ruleset from this node's kernel
    Cleanup(CleanupArgs),
    /// Show enforcement on real packets, in network namespaces, without a cluster
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Print the version
    Version,
}

/// `palisade agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// The node whose pods are enforced: the `spec.nodeName` of its pods
    #[arg(long, env = "NODE_NAME", value_name = "N", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node: String,
    /// The API server's kubeconfig; by default the cluster that the agent runs in
    #[arg(long, value_name = "F", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A directory of manifests to enforce instead of a cluster; followed as it changes
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served; `[::]` is every address, of IPv4 too
    #[arg(long, value_name = "ADDR", default_value = "[::]:9440")]
    pub(crate) listen: SocketAddr,
    /// The form of the log on stderr; RUST_LOG sets its level
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Let every pod reach its own node, whatever its egress policies say
    #[arg(long)]
    pub(crate) allow_egress_to_own_node: bool,
    /// Honour the namespace annotation net.beta.kubernetes.io/network-policy with DefaultDeny, as before Kubernetes 1.7
    #[arg(long)]
    pub(crate) legacy_namespace_isolation: bool,
    /// What becomes of established flows when policies change
    #[arg(long, value_name = "HOW", default_value = "judge")]
    pub(crate) established: Established,
    /// What becomes of untracked packets of pods that are isolated for egress
    #[arg(long, value_name = "HOW", default_value = "drop")]
    pub(crate) untracked: Untracked,
    /// What becomes of packets of this node's pods whose address is not known yet, while one that is isolated is starting
    #[arg(long, value_name = "HOW", default_value = "hold")]
    pub(crate) new_pods: NewPods,
    /// Whether the bridges of pods are set to show their packets to netfilter, or only checked
    #[arg(long, value_name = "HOW", default_value = "set")]
    pub(crate) bridge_netfilter: BridgeNetfilter,
    /// What one policy may cost, in units of one ipBlock, and with it what those of a namespace may select: four pod IPs for
    /// each unit. A policy above it isolates its pods and allows nothing
    #[arg(long, value_name = "UNITS", default_value_t = palisade_policy::input::Budget::DEFAULT.policy.0)]
    pub(crate) policy_budget: u64,
    /// The pod that the agent runs in, as NAMESPACE/NAME: a list of pods without it is not believed at once
    #[arg(long, env = "POD", value_name = "POD")]
    pub(crate) pod: Option<String>,
}

/// What becomes of bridges whose packets pass netfilter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BridgeNetfilter {
    /// They are set to show their packets to netfilter
    Set,
    /// The agent is not ready while there is one
    Check,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What becomes of established flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Established {
    /// Every packet is judged anew: a revoked flow stops at its next packet
    Judge,
    /// They go on until they end by themselves
    Keep,
}

/// What becomes of packets that a foreign rule keeps from conntrack, when their pod is isolated for egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Untracked {
    /// They are dropped
    Drop,
    /// Those pass that an egress rule allows by port and ipBlock; for nodes with NodeLocal DNSCache
    Judge,
}

/// What becomes of packets with an address of this node's pod ranges that no known pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewPods {
    /// They are dropped in the directions in which a pod that is starting here is isolated
    Hold,
    /// They pass, until the agent has learnt whose the address is
    Pass,
}

/// Which objects a verb reads.
#[derive(Debug, Args)]
pub(crate) struct Objects {
    /// Manifests: files, directories (not recursive), or `-` for stdin
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) paths: Vec<PathBuf>,
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
    /// What becomes of established flows when policies change
    #[arg(long, value_name = "HOW", default_value = "judge")]
    pub(crate) established: Established,
    /// What becomes of untracked packets of pods that are isolated for egress
    #[arg(long, value_name = "HOW", default_value = "drop")]
    pub(crate) untracked: Untracked,
    /// The form of the ruleset
    #[arg(short, long, value_name = "FORM", default_value = "nft")]
    pub(crate) output: RenderOutput,
}

/// The form of a printed ruleset.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RenderOutput {
    /// What `nft -f` loads
    Nft,
    /// What `nft -j -f` loads
    Json,
}

/// `palisade trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) objects: Objects,
    /// Who opens the flow: namespace/pod, an address, or node/NAME
    #[arg(long, value_name = "X", required_unless_present = "flows", conflicts_with = "flows")]
    pub(crate) from: Option<String>,
    /// Who is to be reached: namespace/pod or an address
    #[arg(long, value_name = "Y", required_unless_present = "flows", conflicts_with = "flows")]
    pub(crate) to: Option<String>,
    /// The destination's port, after Service translation; every protocol but ICMP needs one
    #[arg(long, conflicts_with = "flows")]
    pub(crate) port: Option<u16>,
    /// TCP, UDP, SCTP or ICMP
    #[arg(long, default_value = "TCP", conflicts_with = "flows")]
    pub(crate) protocol: String,
    /// IPv4 or IPv6; by default the first family of X that Y has too
    #[arg(long, conflicts_with = "flows")]
    pub(crate) family: Option<String>,
    /// Many flows, one JSON object a line; `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) flows: Option<PathBuf>,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: TraceOutput,
    /// An address of a node that no pod's status tells: NAME=IP, repeatable
    #[arg(long = "node-address", value_name = "NAME=IP", value_parser = node_address)]
    pub(crate) node_addresses: Vec<(String, IpAddr)>,
}

/// The form of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceOutput {
    /// For people
    Text,
    /// One JSON object for each flow
    Json,
}

/// `palisade check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Manifests: files, directories (not recursive), or `-` for stdin; without, a cluster is checked
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., conflicts_with = "kubeconfig")]
    pub(crate) paths: Vec<PathBuf>,
    /// The API server's kubeconfig; by default the cluster that this runs in
    #[arg(long, value_name = "F")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The form of the findings
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub(crate) output: CheckOutput,
}

/// The form of findings.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CheckOutput {
    /// For people
    Text,
    /// An array of findings
    Json,
    /// SARIF 2.1.0, for code review
    Sarif,
}

/// `palisade cleanup`.
#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Then wait to be told to end, so that a DaemonSet can run this
    #[arg(long)]
    pub(crate) stay: bool,
}

/// `palisade demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Go on to the next step only when Enter is pressed
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
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
