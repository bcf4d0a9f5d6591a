//! Labs start and end: pods are added and removed, labs run side by side, and nothing survives its process.
//!
//! Seen to fail when: a removed pod's address is not released; a new owner of an address is not announced on the link;
//! sockets for shots are never closed; interface numbers are used twice; commands request no parent-death signal; a
//! dropped child is not killed.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::{
    Child, DEFAULT_DEADLINE, Error, Family, Flow, Lab, Layout, Listen, Namespace, Outcome, PodSpec, probe_all,
};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Polls a condition of the machine.
#[track_caller]
fn await_condition(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "{what} did not happen within {LIMIT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_removed_pods_address_can_be_used_again() {
    let lab = Lab::builder().node(Layout::Bridge).node(Layout::Routed).build().unwrap();
    for node in lab.nodes() {
        let client = node.add_pod("client").unwrap();
        let mut former: Option<palisade_lab::Pod> = None;
        for round in 0..5 {
            let name = format!("server-{round}");
            let server = match &former {
                None => node.add_pod(&name).unwrap(),
                Some(pod) => {
                    let spec = PodSpec::new(&name).ipv4(pod.ipv4().unwrap()).ipv6(pod.ipv6().unwrap());
                    node.add_pod_with(spec).unwrap()
                }
            };
            server.serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap();
            for address in server.addresses() {
                let flows =
                    [Flow::tcp(&client, address, 80), Flow::udp(&client, address, 80), Flow::ping(node, address)];
                assert_eq!(probe_all(&flows, LIMIT).unwrap(), [Outcome::Reachable; 3], "{name}");
                let places = lab.shoot_where(&flows).unwrap();
                assert!(places.iter().all(|place| place.as_ref() == Some(&name)), "{places:?}");
            }
            node.remove_pod(&name).unwrap();
            let gone = Flow::ping(&client, server.ipv4().unwrap());
            assert_eq!(probe_all(&[gone], DEFAULT_DEADLINE).unwrap(), [Outcome::Unreachable]);
            if let Some(former) = &former {
                assert_ne!(former.mac(), server.mac());
                assert_eq!(former.addresses(), server.addresses());
            }
            former = Some(server);
        }
    }
}

/// A veth device disappears with the namespace of its other end.
#[test]
fn a_lab_keeps_no_namespace_that_it_sent_from() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let node = lab.node(1);
    let has_port = || node.command("ip").args(["link", "show", "dev", "port"]).output().unwrap().status.success();
    let short = Namespace::new("short").unwrap();
    let link = ["link", "add", "port", "type", "veth", "peer", "name", "eth0", "netns", &short.path()];
    assert!(node.command("ip").args(link).output().unwrap().status.success());
    assert_eq!(lab.shoot(&[Flow::ping(&short, node.ipv4())]).unwrap(), [false]);
    drop(short);
    assert!(has_port(), "the sockets for shots keep the namespace until the next batch");
    lab.shoot(&[]).unwrap();
    await_condition("the end of the namespace", || !has_port());
}

#[test]
fn names_and_addresses_are_taken_once() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let node = lab.node(1);
    let a = node.add_pod("a").unwrap();
    assert!(matches!(node.add_pod("a"), Err(Error::NameTaken { .. })));
    let taken = PodSpec::new("b").ipv4(a.ipv4().unwrap());
    assert!(
        matches!(node.add_pod_with(taken), Err(Error::AddressTaken { address, .. }) if address == a.addresses()[0])
    );
    let gateway = PodSpec::new("b").ipv4(node.gateway().0);
    assert!(matches!(node.add_pod_with(gateway), Err(Error::AddressTaken { .. })));
    assert!(matches!(node.remove_pod("b"), Err(Error::NoSuchPod { .. })));
    assert_eq!(node.add_pod("b").unwrap().ipv4().unwrap().to_string(), "10.42.1.3");
    node.remove_pod("a").unwrap();
    assert_eq!(node.add_pod("c").unwrap().ipv4().unwrap().to_string(), "10.42.1.2");
    let names: Vec<String> = node.pods().iter().map(|pod| pod.name().to_owned()).collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn a_node_with_ten_pods_takes_well_below_a_second() {
    let start = Instant::now();
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    for number in 0..10 {
        lab.node(1).add_pod(&format!("pod-{number}")).unwrap();
    }
    println!("{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn labs_run_side_by_side() {
    thread::scope(|scope| {
        for allowed in [true, false] {
            scope.spawn(move || {
                let lab = Lab::builder().nodes(2, Layout::Bridge).build().unwrap();
                let a = lab.node(1).add_pod("a").unwrap();
                let b = lab.node(2).add_pod("b").unwrap();
                b.serve(&[Listen::tcp(80)]).unwrap();
                if !allowed {
                    let script = "table inet test { chain c { type filter hook forward priority 0; policy drop; }; }";
                    lab.node(1).nft(script).unwrap();
                }
                for _ in 0..20 {
                    let flows = Family::ALL.map(|family| Flow::tcp(&a, b.address(family).unwrap(), 80));
                    let deadline = if allowed { LIMIT } else { Duration::from_millis(30) };
                    let expected = if allowed { Outcome::Reachable } else { Outcome::Unreachable };
                    assert_eq!(probe_all(&flows, deadline).unwrap(), [expected; 2]);
                    assert_eq!(lab.shoot(&flows).unwrap(), [allowed; 2]);
                }
            });
        }
    });
}

#[test]
fn pods_are_added_from_several_threads() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let lab = &lab;
            scope.spawn(move || {
                for round in 0..3 {
                    let name = format!("{thread}-{round}");
                    let pod = lab.node(1).add_pod(&name).unwrap();
                    assert_eq!(
                        probe_all(&[Flow::ping(&pod, lab.node(1).ipv4())], LIMIT).unwrap(),
                        [Outcome::Reachable]
                    );
                    lab.node(1).remove_pod(&name).unwrap();
                }
            });
        }
    });
    assert!(lab.node(1).pods().is_empty());
}

#[test]
fn commands_run_inside_and_die_with_their_guard() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let node = lab.node(1);
    let output = node.command("ip").args(["-brief", "address", "show", "cni0"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("10.42.1.1/24"));

    let mut command = node.command("sleep");
    command.arg("600");
    let child = Child::spawn(command).unwrap();
    let process = format!("/proc/{}", child.id());
    assert_eq!(std::fs::read_to_string(format!("{process}/comm")).unwrap().trim(), "sleep");
    // Namespaces have the same identity if the files have the same target.
    let inside = node.run(|| std::fs::read_link("/proc/thread-self/ns/net")).unwrap().unwrap();
    assert_eq!(std::fs::read_link(format!("{process}/ns/net")).unwrap(), inside);
    assert!(child.try_wait().unwrap().is_none());
    drop(child);
    assert!(!Path::new(&process).exists());

    let mut command = node.command("sh");
    command.args(["-c", "exit 7"]);
    assert_eq!(Child::spawn(command).unwrap().wait(LIMIT).unwrap().code(), Some(7));
    assert!(matches!(Child::spawn(node.command("/no/such/program")), Err(Error::Io { .. })));
}

#[test]
fn conntrack_entries_are_listed_and_flushed() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let [a, b] = ["a", "b"].map(|name| lab.node(1).add_pod(name).unwrap());
    lab.node(1)
        .nft("table inet t { chain c { type filter hook forward priority 0; ct state new counter; }; }")
        .unwrap();
    let flow = Flow::udp(&a, b.ipv4().unwrap(), 5000).from_port(4000);
    assert_eq!(lab.shoot(&[flow]).unwrap(), [true]);
    assert!(lab.node(1).conntrack(&["-L"]).unwrap().contains("sport=4000 dport=5000"));
    lab.node(1).conntrack(&["-D", "-p", "udp", "--sport", "4000"]).unwrap();
    lab.node(1).conntrack(&["-D", "-p", "udp", "--sport", "4000"]).unwrap();
    assert!(!lab.node(1).conntrack(&["-L"]).unwrap().contains("sport=4000"));
}

// === the end of a process ===

/// Set by the tests below for the copy of this program that plays the victim: the path of one of their namespaces.
const VICTIM: &str = "PALISADE_LAB_TEST_VICTIM";

/// Not a test: the copy's code. It ties a device in the other process's namespace to its lab, starts a program in a
/// pod, reports ready, and waits to be killed.
#[test]
fn victim() {
    let Ok(outer) = std::env::var(VICTIM) else { return };
    let lab = match Lab::builder().node(Layout::Bridge).build() {
        Ok(lab) => lab,
        Err(error) => {
            println!("error: {error}");
            return;
        }
    };
    let pod = lab.node(1).add_pod("a").unwrap();
    pod.serve(&[Listen::tcp(80), Listen::udp(80), Listen::sctp(80)]).unwrap();
    assert_eq!(lab.shoot(&[Flow::ping(lab.node(1), pod.ipv4().unwrap())]).unwrap(), [true]);
    let tie = format!("link add inner type veth peer name tie netns {outer}\n");
    pod.namespace().output("ip", &["-batch", "-"], &tie).unwrap();
    let mut command = pod.command("sleep");
    command.arg("600");
    let child = Child::spawn(command).unwrap();
    println!("ready {}", child.id());
    std::thread::sleep(Duration::from_mins(10));
}

fn victim_command() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).stdout(Stdio::piped());
    command
}

#[test]
fn a_killed_process_leaves_nothing() {
    let outer = Namespace::new("outer").unwrap();
    let mut victim = victim_command()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::victim", "--nocapture"])
        .env(VICTIM, outer.path())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    // The test runner writes its own text before ours, on the same line.
    let child = lines.by_ref().map(Result::unwrap).find_map(|line| Some(line.split_once("ready ")?.1.to_owned()));
    let child = child.expect("the victim got ready");
    let tie_exists = || outer.output("ip", &["link", "show", "dev", "tie"], "").is_ok();
    assert!(tie_exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The kernel removes namespaces from a work queue, and with them both ends of their cables.
    await_condition("the end of the pod's namespace", || !tie_exists());
    await_condition("the end of the pod's program", || has_ended(&child));
}

/// Whether a process is gone, or dead and only waiting for its new parent to reap it.
fn has_ended(process: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat"));
    state.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[test]
fn without_privilege_the_error_says_what_is_missing() {
    let output = victim_command()
        .args(["--bounding-set", "-all", "--inh-caps", "-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::victim", "--nocapture"])
        .env(VICTIM, "/nowhere")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the lab needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN: run it as root"), "{said}");
}

#[test]
fn without_its_programs_the_error_names_the_package() {
    // A separate mount namespace in which the system's program directories are empty.
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "mount -t tmpfs none /usr/sbin && mount -t tmpfs none /sbin; {} --exact lifecycle::victim --nocapture",
        exe.display()
    );
    let output = victim_command()
        .args(["unshare", "--mount", "sh", "-c", &script])
        .env(VICTIM, "/nowhere")
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the lab needs the program `"), "{said}{stderr}");
    assert!(said.contains("apt-get install"), "{said}{stderr}");
}

#[test]
fn a_namespaces_failures_say_where_and_what() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let error = lab.node(1).nft("table inet x { nonsense }").unwrap_err().to_string();
    assert!(error.contains("`nft -f -` failed in namespace `node-1`") && error.contains("nonsense"), "{error}");
    let pod = lab.node(1).add_pod("a").unwrap();
    pod.serve(&[Listen::tcp(80)]).unwrap();
    let error = pod.serve(&[Listen::tcp(80)]).unwrap_err();
    assert_eq!(error.to_string(), "cannot serve TCP on 10.42.1.2:80 in namespace `a`");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("in use"));
    let none: IpAddr = "fd42:1::77".parse().unwrap();
    let flow = Flow::udp(&pod, none, 1).from_address(none);
    assert!(matches!(probe_all(&[flow], DEFAULT_DEADLINE), Err(Error::Socket { .. })));
    pod.stop_serving();
    pod.serve(&[Listen::tcp(80)]).unwrap();
}
