//! `palisade explain`, `pods`, `diff` and `list`, and the ends that stand for several pods.
//!
//! Seen to fail when: a Service's port is not translated; a Service without a selector has no endpoints; a workload
//! stands for no pod; `--override` keeps the earlier object; `diff` ends with 0 although a flow changes; a git revision
//! is read from the work tree; `list` needs an agent; a counter of a rule is left out; `explain rule` has one direction of
//! a set that both use, ignores `--node`, does not know whose a port map is, or proposes no name.

use std::process::Command;

use serde_json::Value;

use crate::cli::place::{Ended, PALISADE, Place};

const TEAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/example/team");
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/example/shop.yaml");
const DENY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/example/default-deny.yaml");

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_ends_of_a_flow_may_be_services_and_workloads() {
    let external = "\
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {clusterIP: 10.96.0.11, ports: [{port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ledger-1, namespace: shop, labels: {kubernetes.io/service-name: ledger}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.7]}]
ports: [{port: 8443, protocol: TCP}]
";
    let place = Place::new("ends", &[("ledger.yaml", external)]);
    let read = format!("trace -f {TEAM} -f ledger.yaml");
    // The Service's port 80 is the pod's port 9000, by the name http; the policy allows the pod's port 80 only.
    let denied = place.run(&format!("{read} --from deploy/shop/web --to svc/shop/api --port 80 -o json")).denied();
    let answer = json(&denied);
    assert_eq!((&answer["to"], &answer["transport"]), (&"shop/api".into(), &"TCP 9000".into()));
    for to in ["svc/shop/api", "svc/shop/api:http", "10.96.0.10:80", "svc/shop/api:80"] {
        let text = place.run(&format!("{read} --from deploy/shop/web --to {to}")).denied();
        assert!(text.contains("service shop/api: leads to shop/api TCP 9000\n"), "{to}: {text}");
        assert!(text.contains("nearest miss: shop/api-from-web ingress[0]"), "{text}");
    }
    let text = place.run(&format!("{read} --from deploy/shop/web --to svc/shop/ledger")).printed();
    assert!(text.contains("leads to 192.0.2.7 TCP 8443"), "{text}");
    for (from, to, says) in [
        ("shop/web", "svc/shop/apj", "service shop/apj is not among the objects read; did you mean shop/api?"),
        ("deploy/shop/wep", "svc/shop/api", "workload shop/wep is not among the objects read; did you mean shop/web?"),
        ("shop/wep", "shop/api:80", "pod shop/wep is not among the objects read; did you mean shop/web?"),
        ("svc/shop/api", "shop/web:80", "service shop/api opens no flows"),
        ("deploy/web", "shop/api:80", "has no namespace: write deploy/NAMESPACE/web, or give -n"),
        ("shop/web", "svc/shop/api:81", "service shop/api has no TCP port 81; it has http TCP 80"),
    ] {
        place.run(&format!("{read} --from {from} --to {to}")).assert_refused(2, &[says]);
    }
}

#[test]
fn a_later_file_replaces_objects_of_an_earlier_one_only_if_asked() {
    let open = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-frontend, namespace: shop}
spec: {podSelector: {matchLabels: {app: backend}}, ingress: [{}]}
";
    let place = Place::new("override", &[("open.yaml", open)]);
    let flow = "--from shop/frontend --to shop/backend --port 9090";
    place.run(&format!("trace -f {SHOP} -f open.yaml {flow}")).assert_refused(2, &["is written twice"]);
    place.run(&format!("trace -f {SHOP} -f open.yaml --override {flow}")).printed();
    place.run(&format!("trace -f open.yaml -f {SHOP} --override {flow}")).denied();
    let rendered = place.run(&format!("render -f {SHOP} -f open.yaml --override --node node-1")).printed();
    assert!(rendered.contains("shop/allow-frontend ingress[0]") && !rendered.contains("8080"), "{rendered}");
}

#[test]
fn a_flow_a_pod_and_a_policy_are_explained_in_json() {
    let place = Place::new("explained", &[("empty", "")]);
    let flow = json(&place.run(&format!("explain flow -f {SHOP} shop/frontend shop/backend 9090 -o json")).denied());
    let ingress = &flow["flows"][0]["ingress"];
    assert_eq!(flow["flows"][0]["verdict"], "deny");
    assert_eq!(ingress["policies"][0]["rules"][0]["peer"], true);
    assert_eq!(ingress["policies"][0]["rules"][0]["port"], false);
    assert_eq!(ingress["nearest"]["policy"], "shop/allow-frontend");
    assert_eq!(ingress["node"]["chain"], "ingress/shop/allow-frontend");
    let pod = json(&place.run(&format!("explain pod -f {SHOP} shop/backend -o json")).printed());
    assert_eq!(pod["ingress"]["isolatedBy"], serde_json::json!(["shop/allow-frontend"]));
    assert_eq!(pod["ingress"]["peers"], serde_json::json!([{ "peer": "shop/frontend", "ports": "TCP 8080" }]));
    let policy = json(&place.run(&format!("explain policy -f {SHOP} shop/allow-frontend -o json")).printed());
    assert_eq!(policy["rules"][0]["adds"][0]["ports"], "TCP 8080");
    assert_eq!(policy["rules"][0]["shadowed"], false);
    place
        .run(&format!("explain policy -f {SHOP} shop/allow-fronted"))
        .assert_refused(2, &["did you mean shop/allow-frontend?"]);
}

#[test]
fn pods_are_listed_by_isolation() {
    let place = Place::new("pods", &[("empty", "")]);
    let listed = |arguments: &str| Ended::of(place.command(&format!("pods -f {TEAM} {arguments}")).output().unwrap());
    let open = listed("--open -n shop -o json");
    let names: Vec<_> = json(&open.out).as_array().unwrap().iter().map(|pod| pod["pod"].to_string()).collect();
    assert_eq!(names, ["\"api\"", "\"db\"", "\"web\""]);
    let one = listed("-l app=api,app");
    assert_eq!(one.out.lines().count(), 2, "{}", one.out);
    assert!(one.err.starts_with("1 pod: 1 open for egress, 0 open for ingress"), "{}", one.err);
    listed("-l app=(").assert_refused(2, &["--selector", "is none of key=value"]);
}

#[test]
fn a_change_is_told_by_its_flows() {
    let place = Place::new("diff", &[("empty", "")]);
    assert_eq!(place.run(&format!("diff {TEAM} {TEAM}")).printed(), "no flow changes\n");
    let denied = place.run(&format!("diff {TEAM} --apply {DENY} -o json")).denied();
    let changes = json(&denied);
    let of = |from: &str, to: &str| {
        let all = changes["changes"].as_array().unwrap();
        all.iter().filter(|change| change["from"] == from && change["to"] == to).collect::<Vec<_>>()
    };
    assert_eq!(of("shop/api", "shop/db")[0]["closed"], "TCP 5432");
    assert!(of("ingress/controller", "shop/api").is_empty(), "it was closed before");
    place.run(&format!("diff {TEAM}")).assert_refused(2, &["name two paths"]);

    // A revision is what git has, not what the work tree has.
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "init.defaultBranch=main"])
            .args(arguments);
        assert!(git.current_dir(&place.0).output().unwrap().status.success(), "git {arguments:?}");
    };
    std::fs::create_dir_all(place.0.join("all")).unwrap();
    let shop = std::fs::read_to_string(SHOP).unwrap();
    std::fs::write(place.0.join("all/shop.yaml"), &shop).unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "shop"]);
    std::fs::write(place.0.join("all/shop.yaml"), shop.replace("8080", "8081")).unwrap();
    let changed = place.run("diff --git HEAD all").denied();
    assert_eq!(changed, "+ shop/frontend   → shop/backend   TCP 8081\n- shop/frontend   → shop/backend   TCP 8080\n");
    place.run("diff --git HEAD all/shop.yaml").denied();
    place.run("diff --git nowhere all").assert_refused(2, &["git ls-tree", "nowhere"]);
}

#[test]
fn the_kernels_table_is_listed_with_its_counters() {
    let place = Place::new("list", &[("empty", "")]);
    place.run("list").assert_refused(1, &["there is no table inet palisade on this node"]);
    let script = format!(
        "{PALISADE} render -f {SHOP} --node node-1 | nft -f - && {PALISADE} list > whole && {PALISADE} list shop/backend > pod \
         && {PALISADE} list 10.42.1.3 > address && {PALISADE} render -f {SHOP} --node node-1 > rendered"
    );
    let run = Command::new("unshare").args(["--net", "sh", "-c", &script]).current_dir(&place.0).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let read = |file: &str| std::fs::read_to_string(place.0.join(file)).unwrap();
    // It is what was rendered, but for the script's first lines and the values of counters.
    let values = |line: &str| line.contains("packets 0 bytes 0") && !line.contains("goto");
    let listed: Vec<_> = read("whole").lines().filter(|line| !values(line)).map(ToOwned::to_owned).collect();
    let listed: Vec<_> = listed.iter().map(|line| line.replace("counter packets 0 bytes 0", "counter")).collect();
    let rendered = read("rendered");
    assert_eq!(listed, rendered.lines().skip(2).collect::<Vec<_>>());
    assert!(read("whole").contains("counter packets 0 bytes 0 goto drop/ingress"));
    let pod = read("pod");
    assert!(pod.contains("chain ingress/shop/allow-frontend {") && !pod.contains("chain forward"), "{pod}");
    assert!(!pod.contains("shop/frontend\""), "{pod}");
    assert!(read("address").contains("chain ingress/shop/allow-frontend {"));
}

/// Pods on two nodes, isolated by policies that share a set, and by one whose many ports have a map.
const LISTED: &str = "\
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec: {nodeName: node-1}
status: {phase: Running, hostIP: 172.30.0.11, podIPs: [{ip: 10.42.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: api, labels: {app: api}}
spec: {nodeName: node-2}
status: {phase: Running, hostIP: 172.30.0.12, podIPs: [{ip: 10.42.2.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: both}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]
  egress: [{ports: [{port: 53}]}, {to: [{podSelector: {matchLabels: {app: web}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: many}
spec:
  podSelector: {matchLabels: {app: api}}
  ingress:
    - from: [{ipBlock: {cidr: 192.0.2.0/24}}]
      ports: [{port: 1}, {port: 3}, {port: 5}, {port: 7}, {port: 9}, {port: 11}, {port: 13}, {port: 15}, {port: 17}]
";

#[test]
fn a_line_of_a_listing_leads_to_its_policies_and_pods() {
    let place = Place::new("rule", &[("listed.yaml", LISTED)]);
    let run = |text: &str, more: &str| {
        let mut command = place.command(&format!("explain rule -f listed.yaml {more}"));
        Ended::of(command.arg(text).output().unwrap())
    };
    let places = |text: &str| json(&run(text, "-o json").printed());
    // A chain that pods of one node have, and one that pods of both nodes have.
    let both = places("egress/shop/both");
    assert_eq!(both[0]["nodes"], serde_json::json!(["node-1", "node-2"]));
    assert_eq!(both[0]["pods"], serde_json::json!(["shop/api", "shop/web"]));
    assert_eq!(both[0]["policies"], serde_json::json!(["shop/both"]));
    let one = run("egress/shop/both", "-o json --node node-2").printed();
    assert_eq!(json(&one)[0]["pods"], serde_json::json!(["shop/api"]));
    // Every chain, set, map and rule of the listing is found again, and those of policies have an owner.
    let rendered = place.run("render -f listed.yaml --node node-2").printed();
    let (mut of_policies, mut in_chain) = (0, false);
    for line in rendered.lines().map(str::trim) {
        let head = ["chain ", "set ", "map ", "counter "]
            .into_iter()
            .find(|kind| line.starts_with(kind) && line.ends_with('{'));
        in_chain = head.map_or(in_chain, |kind| kind == "chain ");
        let is_rule =
            in_chain && head.is_none() && !["comment ", "type ", "}"].iter().any(|word| line.starts_with(word));
        if head.is_none() && (!is_rule || line.is_empty()) {
            continue;
        }
        let found = places(line);
        assert_eq!(found[0]["kind"] == "rule", is_rule, "{line}: {found}");
        if ["shop/", "ports/"].iter().any(|part| line.contains(part)) {
            of_policies += 1;
            assert!(!found[0]["policies"].as_array().unwrap().is_empty(), "{line}: {found}");
        }
    }
    // Six heads: the chains of two groups and of two peers of ports, a map, a set. Seven rules in these chains.
    assert_eq!(of_policies, 13, "{rendered}");
    // The set of both directions, and a rule behind a port map, which only the chain of its policies leads to.
    let set = rendered.lines().find_map(|line| line.strip_prefix("\tset pods/")).unwrap();
    let set = places(&format!("@pods/{}", set.trim_end_matches(" {")));
    assert_eq!(set[0]["directions"], serde_json::json!(["egress", "ingress"]));
    assert_eq!(set[0]["elements"], serde_json::json!(["shop/web"]));
    assert_eq!(set[0]["rules"].as_array().unwrap().len(), 2, "{set}");
    let behind = places("ct original ip saddr 192.0.2.0/24 return comment \"shop/many ingress[0]\"");
    assert!(behind[0]["name"].as_str().unwrap().starts_with("ports/ingress/"), "{behind}");
    assert_eq!(
        behind[0]["rules"],
        serde_json::json!([{ "policy": "shop/many", "rule": "ingress[0]", "covered": false }])
    );
    assert_eq!(behind[0]["pods"], serde_json::json!(["shop/api"]));
    for (text, more, says) in [
        ("egress/shop/bothe", "", "no node's ruleset has \"egress/shop/bothe\"; did you mean egress/shop/both?"),
        ("egress/shop/both", "--node node-3", "no pod that was read is on node node-3"),
        ("trace id 1 inet filter forward verdict accept", "", "the line is of table inet filter"),
        (&"x".repeat(5000), "", "more than 4096 bytes"),
        ("", "", "the text is empty"),
    ] {
        run(text, more).assert_refused(2, &[says]);
    }
}
