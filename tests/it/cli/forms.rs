//! The forms of an answer: YAML has what JSON has, and colours are for terminals.
//!
//! Seen to fail when: YAML has less than JSON; flows are one document; an error is none; a file or a
//! pipe gets colours, or a terminal none; NO_COLOR is ignored; a pipe gets progress.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cli::place::{Ended, PALISADE, Place, SHOP};

/// Every verb that answers in JSON, with all of what it may answer.
pub(crate) const ANSWERS: [&str; 20] = [
    "trace -f shop.yaml --from shop/web --to shop/db --port 80",
    "trace -f shop.yaml --flows flows",
    "trace -f shop.yaml --conntrack=entries",
    "check -f shop.yaml",
    "check -f faults.yaml",
    "pods -f shop.yaml",
    "explain flow -f shop.yaml shop/web shop/db 80",
    "explain flow -f shop.yaml ops/bare shop/db 80",
    "explain pod -f shop.yaml shop/db",
    "explain pod -f shop.yaml ops/bare",
    "explain policy -f shop.yaml shop/db",
    "trace -f shop.yaml --from shop/web --to shop/db --port 80 --untracked drop",
    "explain flow -f shop.yaml shop/web shop/db 80 --untracked judge",
    "explain rule -f shop.yaml ingress/shop/db",
    "explain rule -f shop.yaml ingress4",
    "explain rule -f shop.yaml drop/ingress",
    "graph -f shop.yaml",
    "diff shop.yaml open.yaml",
    "diff open.yaml shop.yaml",
    "diff shop.yaml shop.yaml",
];

/// The files that the answers are about.
pub(crate) fn place(name: &str) -> Place {
    let flows = "{\"from\":\"shop/web\",\"to\":\"shop/db\",\"port\":80}\n{}\n{\"from\":\"shop/db\",\"to\":\"shop/web\",\"port\":80}\n";
    let entries =
        "tcp 6 9 src=10.42.1.2 sport=1 src=10.42.1.3 sport=80\ntcp 6 9 src=10.42.1.3 sport=1 src=10.42.1.2 sport=80\n";
    let open = SHOP.rsplit_once("---").unwrap().0.replace("name: late", "name: new");
    let faults = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n\
                  spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.1.2.3/16}}], ports: null}], ingres: []}\n";
    let files =
        [("flows", flows), ("entries", entries), ("open.yaml", &open), ("faults.yaml", faults), ("shop.yaml", SHOP)];
    Place::new(name, &files)
}

#[test]
fn yaml_has_what_json_has() {
    let place = place("yaml");
    for arguments in ANSWERS {
        let (json, yaml) = (place.run(&format!("{arguments} -o json")), place.run(&format!("{arguments} -o yaml")));
        assert_eq!((yaml.status, &yaml.err), (json.status, &json.err), "{arguments}");
        let json: Vec<Value> = serde_json::Deserializer::from_str(&json.out).into_iter().map(Result::unwrap).collect();
        assert!(!json.is_empty(), "{arguments}");
        let yaml: Vec<Value> = serde_saphyr::from_multiple(&yaml.out).unwrap();
        assert_eq!(yaml, json, "{arguments}");
    }
}

/// Runs in a terminal of its own, as `script` makes one, with both outputs in it.
fn in_terminal(place: &Place, arguments: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &format!("{PALISADE} {arguments}"), "/dev/null"]);
    command.current_dir(&place.0).env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CI").stdin(Stdio::null());
    command.envs(environment.iter().copied());
    Ended::of(command.output().unwrap()).out
}

#[test]
fn colours_are_for_terminals_and_not_for_those_who_refuse_them() {
    let place = place("colours");
    let trace = "trace -f shop.yaml --from shop/web --to shop/db --port 80";
    let (red, green) = ("\u{1b}[1m\u{1b}[31m", "\u{1b}[32m");
    for arguments in [trace, "explain flow -f shop.yaml shop/web shop/db 80"] {
        let shown = in_terminal(&place, arguments, &[]);
        assert!(shown.contains(&format!("{red}deny\u{1b}[0m: shop/web")), "{shown:?}");
        assert!(shown.contains(&format!("{green}allow\u{1b}[0m: no policy isolates shop/web")), "{shown:?}");
    }
    for arguments in ["trace -f shop.yaml --flows flows", "trace -f shop.yaml --conntrack=entries"] {
        let shown = in_terminal(&place, arguments, &[]);
        assert!(shown.contains(&format!("{red}deny")) && shown.contains(&format!("{green}allow")), "{shown:?}");
    }
    let shown = in_terminal(&place, "check -f faults.yaml", &[]);
    assert!(shown.contains(&format!("{red}error\u{1b}[0m[unknown-field]")), "{shown:?}");
    for arguments in [trace, "check -f faults.yaml"] {
        for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let shown = in_terminal(&place, arguments, &[environment]);
            assert!(!shown.contains('\u{1b}'), "{environment:?}: {shown:?}");
        }
        for form in ["json", "yaml"] {
            let shown = in_terminal(&place, &format!("{arguments} -o {form}"), &[]);
            assert!(!shown.contains('\u{1b}'), "{form}: {shown:?}");
        }
        let piped = place.run(arguments);
        assert!(!(piped.out + &piped.err).contains('\u{1b}'));
    }
}

#[test]
fn progress_is_for_terminals_and_leaves_nothing() {
    let place = place("progress");
    let shown = in_terminal(&place, "diff shop.yaml open.yaml", &[]);
    assert!(shown.starts_with("comparing the flows …\r\u{1b}[K+ "), "{shown:?}");
    let piped = place.run("diff shop.yaml open.yaml");
    assert_eq!((piped.status, piped.err.as_str()), (Some(1), ""));
}
