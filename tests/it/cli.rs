//! The command line as a user meets it: exit statuses, stdout and stderr. Other tests check verdicts and rulesets
//! (`golden.rs`, `src/trace/tests.rs`), the demo (`demo.rs`), and a running agent (`agent.rs`).
//!
//! Seen to fail when: wrong usage ends with 1; an empty node is taken for a node; errors or warnings go to stdout;
//! hints are not printed; a cause is printed twice; only the first mistake is reported; documents count from 0; the
//! rest is read although one manifest is wrong; a closed stdout is a failure, of `render` or of `trace`; lines that
//! cannot be judged print nothing; ICMP needs a port; the family or `--node-address` is ignored; `-o json` prints the
//! text; `cleanup --stay` does not stay; a denied flow ends with 0, or one that cannot be judged with 1; there is no
//! note about a node without pods; `render` prints advice, or does not warn of a null that opens.

mod cluster;
mod conntrack;
mod flags;
mod forms;
mod pages;
pub(crate) mod place;
mod questions;
mod review;
mod schema;
mod trace;

use std::io::{BufRead as _, BufReader, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use place::{Ended, PALISADE, Place, SHOP, feed};

#[test]
fn wrong_usage_ends_with_2_and_says_what_was_wrong() {
    let place = Place::new("usage", &[("shop.yaml", SHOP), ("flows", "")]);
    let trace = "trace -f shop.yaml";
    let cases: &[(&str, &[&str])] = &[
        ("", &["Usage: palisade <COMMAND>", "render", "trace", "cleanup"]),
        ("frob", &["unrecognized subcommand 'frob'"]),
        ("version now", &["unexpected argument 'now'"]),
        ("cleanup --all", &["unexpected argument '--all'"]),
        ("demo --fast", &["unexpected argument '--fast'"]),
        ("render --node node-1", &["--filename <PATH>..."]),
        ("render -f shop.yaml", &["--node <N>"]),
        ("render -f shop.yaml --node=", &["--node <N>", "value is required"]),
        ("render -f shop.yaml --node node-1 -o yaml", &["'yaml'", "--output <FORMAT>", "nft, json"]),
        ("agent --manifests .", &["--node <N>"]),
        ("agent --manifests . --node=", &["--node <N>", "value is required"]),
        ("agent --node node-1 --manifests . --kubeconfig k", &["'--manifests <DIR>'", "'--kubeconfig <F>'"]),
        ("agent --node node-1 --manifests . --listen here", &["'here'", "--listen <ADDR>"]),
        ("agent --node node-1 --manifests . --log-format xml", &["'xml'", "text, json"]),
        (trace, &["--from <X>", "--to <Y>"]),
        ("pods -A -n shop", &["--all-namespaces", "--namespace <NAMESPACE>"]),
        ("trace -f shop.yaml --from shop/web --port 80", &["--to <Y>"]),
        ("trace -f shop.yaml --from shop/web --to shop/db", &["port is missing; TCP needs one"]),
        ("trace -f shop.yaml --from shop/web --to shop/db --port 0", &["port 0 is not a number from 1 to 65535"]),
        (
            "trace -f shop.yaml --from shop/web --to shop/db --port 65536",
            &["port 65536 is not a number from 1 to 65535"],
        ),
        ("trace -f shop.yaml --from web --to shop/db --port 80", &["\"web\" is not namespace/pod"]),
        ("trace -f shop.yaml --from shop/web --to shop/db --port 80 --protocol GRE", &["\"GRE\"", "TCP, UDP, SCTP"]),
        ("trace -f shop.yaml --from shop/web --to shop/db --port 80 --family 5", &["not IPv4 or IPv6"]),
        ("trace -f shop.yaml --from shop/web --to shop/db:80 --port 81", &["two ports"]),
        ("check -f shop.yaml -A", &["'--all-namespaces'"]),
        ("check -f shop.yaml --context c", &["'--context <NAME>'"]),
        ("completions csh", &["'csh'", "bash"]),
        ("trace -f shop.yaml --flows flows --from shop/web", &["'--flows <FILE>'", "'--from <X>'"]),
        ("trace -f shop.yaml --flows flows --port 80", &["'--flows <FILE>'", "'--port <PORT>'"]),
        ("trace -f - --flows -", &["both -f and --flows", "hint: write one of them to a file"]),
        ("trace -f shop.yaml --flows flows --node-address node-1", &["write it as NAME=IP"]),
    ];
    for (arguments, says) in cases {
        place.run(arguments).assert_refused(2, says);
    }
    // A missing field of a pod spec gives the variable an empty value, which is not a node either.
    let mut command = place.command("agent --manifests .");
    Ended::of(command.env("NODE_NAME", "").output().unwrap()).assert_refused(2, &["--node <N>"]);
}

#[test]
fn a_failure_says_why_and_ends_with_1_or_for_verbs_that_answer_with_1_with_2() {
    let place = Place::new("failures", &[("shop.yaml", SHOP), ("empty/none.txt", "")]);
    let flow = "--from shop/web --to shop/db --port 80";
    let missing = "No such file or directory";
    let cases: &[(i32, String, &[&str])] = &[
        (2, "render -f nowhere.yaml --node node-1".to_owned(), &["error: nowhere.yaml: ", missing]),
        (2, format!("trace -f shop.yaml nowhere.yaml {flow}"), &["nowhere.yaml: ", missing]),
        (2, "trace -f shop.yaml --flows nowhere".to_owned(), &["cannot read the flows of nowhere", missing]),
        (
            2,
            "trace -f shop.yaml --from shop/nobody --to shop/db --port 80".to_owned(),
            &["pod shop/nobody is not among"],
        ),
        (2, "trace -f shop.yaml --from shop/late --to 10.42.1.3 --port 80".to_owned(), &["share no address family"]),
        (2, "trace -f shop.yaml --from shop/web --to shop/db:http".to_owned(), &["shop/db declares no TCP port named"]),
        (1, "agent --node node-1 --listen 0.0.0.0:0 --manifests nowhere".to_owned(), &["directory nowhere", missing]),
        (
            1,
            "agent --node node-1 --listen 0.0.0.0:0 --manifests shop.yaml".to_owned(),
            &["shop.yaml", "Not a directory"],
        ),
        (1, "agent --node node-1 --listen 0.0.0.0:0 --kubeconfig nowhere".to_owned(), &["kubeconfig nowhere", missing]),
        (2, "check --context elsewhere".to_owned(), &["context elsewhere cannot be used", "KUBECONFIG"]),
    ];
    for (status, arguments, says) in cases {
        let ended = place.run(arguments);
        ended.assert_refused(*status, says);
        assert!(ended.err.lines().any(|line| line.starts_with("error: ")), "{}", ended.err);
        assert!(ended.err.matches(missing).count() <= 1, "it says the same twice: {}", ended.err);
    }
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set=-all", PALISADE, "cleanup"]);
    Ended::of(command.output().unwrap()).assert_refused(1, &["CAP_NET_ADMIN", "Operation not permitted", "hint: "]);
}

#[test]
fn a_script_learns_the_verdict_from_the_exit_status() {
    let allowed = r#"{"from":"shop/db","to":"shop/web","port":80}"#;
    let denied = r#"{"from":"shop/web","to":"shop/db","port":80}"#;
    let place = Place::new("status", &[("shop.yaml", SHOP)]);
    for (flows, status) in [
        (String::new(), 0),
        (format!("{allowed}\n{allowed}\n"), 0),
        (format!("{allowed}\n{denied}\n{allowed}\n"), 1),
        (format!("{denied}\n{{}}\n{allowed}\n"), 2),
        (format!("{allowed}\n{{}}\n"), 2),
    ] {
        for form in ["text", "json"] {
            let ended = place.run_with(&format!("trace -f shop.yaml --flows - -o {form}"), &flows);
            assert_eq!(ended.status, Some(status), "{flows}: {ended:?}");
            assert_eq!(ended.err.contains(" flows could not be judged"), status == 2, "{}", ended.err);
            assert!(!ended.out.contains("error: "), "{}", ended.out);
        }
    }
    let single = |to: &str| place.run(&format!("trace -f shop.yaml --from shop/web --to {to}")).status;
    assert_eq!((single("shop/db:5432"), single("shop/db:80")), (Some(0), Some(1)));
}

#[test]
fn a_node_without_pods_gets_a_note() {
    let place = Place::new("node", &[("shop.yaml", SHOP)]);
    let ended = place.run("render -f shop.yaml --node node-9");
    assert_eq!((ended.status, ended.out.contains("table inet palisade")), (Some(0), true), "{ended:?}");
    let note =
        "note: no pod of the input is on node node-9, so its ruleset isolates nothing; pods are on node-1, node-2\n";
    assert_eq!(ended.err, note);
}

#[test]
fn shells_take_the_completions() {
    let place = Place::new("completions", &[("x", "")]);
    for (shell, starts) in [("bash", "_palisade() {"), ("zsh", "#compdef palisade"), ("fish", "# Print an optspec")] {
        let script = place.run(&format!("completions {shell}")).printed();
        assert!(script.contains(starts) && script.contains("untracked"), "{shell}: {script}");
        if shell == "bash" {
            let mut bash = Command::new("bash");
            bash.arg("-n");
            let checked = Ended::of(feed(bash, &script));
            assert_eq!((checked.status, checked.err.as_str()), (Some(0), ""));
        }
    }
}

#[test]
fn man_pages_are_those_of_the_program_and_of_its_verbs() {
    let place = Place::new("man", &[("x", "")]);
    for (arguments, title, says) in
        [("man", ".TH palisade 1", "palisade\\-trace(1)"), ("man trace", ".TH palisade-trace 1", "\\-\\-flows")]
    {
        let page = place.run(arguments).printed();
        assert!(page.contains(title) && page.contains(says), "{page}");
    }
    place.run("man trce").assert_refused(2, &["there is no verb trce"]);
}

#[test]
fn render_warns_of_what_opens_and_leaves_advice_to_check() {
    let policy = |from: &str| {
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  \
         podSelector: {}\n  ingress: [{from: FROM}]\nstatus: {}\n"
            .replace("FROM", from)
    };
    let (block, null) = (policy("[{ipBlock: {cidr: 10.1.2.3/16}}]"), policy("null"));
    let place = Place::new("advice", &[("block.yaml", &block), ("null.yaml", &null)]);
    let warnings = |file: &str| {
        let ended = place.run(&format!("render -f {file} --node node-1"));
        assert_eq!(ended.status, Some(0), "{ended:?}");
        ended.err.lines().filter(|line| line.starts_with("warning: ")).count()
    };
    assert_eq!((warnings("block.yaml"), warnings("null.yaml")), (0, 1));
    let checked = place.run("check -f block.yaml");
    assert!(checked.out.contains("[legacy-cidr]") && checked.out.contains("[removed-field]"), "{checked:?}");
}

#[test]
fn help_and_version_are_answers() {
    let place = Place::new("help", &[("x", "")]);
    let version = format!("palisade {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((place.run("version").printed(), place.run("--version").printed()), (version.clone(), version));
    for (arguments, says) in [
        ("--help", "Remove the ruleset from this node's kernel"),
        ("agent --help", "[env: NODE_NAME="),
        ("render --help", "-f, --filename <PATH>..."),
        ("trace --help", "--flows <FILE>"),
        ("cleanup --help", "Remove the ruleset"),
        ("demo --help", "--step"),
    ] {
        let help = place.run(arguments).printed();
        assert!(help.contains(says) && help.contains("Usage: palisade"), "{help}");
    }
    assert_eq!(place.run("cleanup").printed(), "there is no table inet palisade\n");
}

#[test]
fn a_staying_cleanup_ends_on_sigterm() {
    // The process itself, not one that waits for it.
    let mut command = Command::new("unshare");
    command.args(["--net", PALISADE, "cleanup", "--stay"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // It stays once it has a handler for SIGTERM; as process 1 of a container it would not end without one.
    let status = format!("/proc/{}/status", child.id());
    let handles = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (15 - 1) != 0)
    };
    let start = Instant::now();
    let stays = loop {
        if child.try_wait().unwrap().is_some() || start.elapsed() > Duration::from_secs(60) {
            break false;
        }
        if handles(&fs::read_to_string(&status).unwrap()) {
            break true;
        }
        thread::sleep(Duration::from_millis(5));
    };
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(line, "there is no table inet palisade\n");
    assert!(stays && ended.success(), "stays: {stays}; ended: {ended}");
}

#[test]
fn a_mistake_is_reported_with_file_document_field_and_reason_and_nothing_is_half_read() {
    const GOOD: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";
    let wrong = "\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: wide}
spec:
  podSelector: {}
  ingress:
    - from:
        - ipBlock: {cidr: 10.0.0.0/33}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: small}
spec: {podSelector: {}, policyTypes: [ingress]}
";
    let first = SHOP.lines().count();
    let place =
        Place::new("wrong", &[("all/a.yaml", GOOD), ("all/b.yaml", &(SHOP.to_owned() + wrong)), ("c.yaml", "a: [")]);
    // Line and document count from the start of the file, which begins with five good documents.
    let expected = [
        format!("all/b.yaml:{}: document 6: spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is not", first + 9),
        format!("all/b.yaml:{}: document 7: spec.policyTypes[0]: \"ingress\" is not Ingress or Egress", first + 14),
        // The end of the file.
        "c.yaml:2: ".to_owned(),
    ];
    let says: Vec<_> = expected.iter().map(String::as_str).collect();
    let (flow, flows) =
        ("--from 10.42.1.2 --to 10.42.1.3 --port 80", "{\"from\":\"1.2.3.4\",\"to\":\"1.2.3.5\",\"port\":1}\n");
    for (arguments, stdin) in [
        ("render -f all c.yaml --node node-1".to_owned(), ""),
        ("render -f all c.yaml --node node-1 -o json".to_owned(), ""),
        (format!("trace -f all c.yaml {flow}"), ""),
        (format!("trace -f all c.yaml {flow} -o json"), ""),
        ("trace -f all c.yaml --flows - -o json".to_owned(), flows),
    ] {
        place.run_with(&arguments, stdin).assert_refused(2, &says);
    }
    // Standard input is called `-`.
    let says = expected[0].replace("all/b.yaml", "-");
    place.run_with("render -f - --node node-1", &(SHOP.to_owned() + wrong)).assert_refused(2, &[&says]);
}

#[test]
fn warnings_go_to_stderr_and_the_answer_to_stdout() {
    let old = SHOP.replace("apiVersion: networking.k8s.io/v1", "apiVersion: extensions/v1beta1");
    let place = Place::new("warnings", &[("old.yaml", &old), ("shop.yaml", SHOP)]);
    let ended = place.run("render -f old.yaml --node node-1");
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let line = SHOP.lines().position(|line| line.starts_with("apiVersion: networking")).unwrap() + 1;
    let says = format!("warning: old.yaml:{line}: document 5: apiVersion: ");
    assert!(ended.err.starts_with(&says) && ended.err.lines().count() == 1, "{}", ended.err);
    assert_eq!(ended.out, place.run("render -f shop.yaml --node node-1").printed());
}

#[test]
fn nft_takes_both_forms_of_a_ruleset() {
    let place = Place::new("forms", &[("shop.yaml", SHOP)]);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let cases = fs::read_dir(data).unwrap().map(|case| case.unwrap().path().join("input.yaml"));
    let inputs: Vec<_> = cases.chain([place.0.join("shop.yaml")]).collect();
    assert!(inputs.len() >= 5, "{inputs:?}");
    for input in inputs {
        let text = fs::read_to_string(&input).unwrap();
        for (form, check) in [("nft", "nft -c -f -"), ("json", "nft -j -c -f -")] {
            let mut command = place.command(&format!("render -f - -o {form}"));
            // The node's name may come from the environment, as in a DaemonSet.
            command.env("NODE_NAME", "node-1");
            let rendered = Ended::of(feed(command, &text)).printed();
            assert!(rendered.contains("palisade") && rendered.contains("ingress/"), "{rendered}");
            let mut nft = Command::new("unshare");
            nft.arg("--net").args(check.split(' '));
            let taken = Ended::of(feed(nft, &rendered));
            assert_eq!((taken.status, taken.err.as_str()), (Some(0), ""), "{}, {form}", input.display());
        }
    }
}

#[test]
fn a_closed_stdout_is_no_failure() {
    let flow = "{\"from\":\"shop/web\",\"to\":\"shop/db\",\"port\":80}\n";
    let place = Place::new("gone", &[("shop.yaml", SHOP), ("flows", &flow.repeat(20_000))]);
    for arguments in ["render -f shop.yaml --node node-1", "trace -f shop.yaml --flows flows", "version"] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = place.command(arguments).stdout(writer).output().unwrap();
        assert_eq!(Ended::of(output).printed(), "", "{arguments}");
    }
}
