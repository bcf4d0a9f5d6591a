//! The text form and the JSON form, as nft and the kernel read them.
//!
//! Seen to fail when: a chain was named `icmpv6`, which is an nft keyword; the mask of the mid-stream flags lost a bit
//! in the JSON form; the JSON form added elements to an interval map after creating it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use palisade_policy::index::Index;
use palisade_ruleset::render::{Options, render};
use palisade_ruleset::{json, text};
use palisade_testkit::generate::arb_state;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Runs a script in a new network namespace, which ends with it.
fn in_namespace(script: &str, input: &str) -> String {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-euc", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("unshare from util-linux");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// A listing without what is not part of a form: counter values, line breaks, and the order of elements, which the
/// kernel does not keep for concatenations.
fn normal(listing: &str) -> String {
    let listing = listing.replace("counter packets 0 bytes 0", "counter").replace("packets 0 bytes 0", "");
    let words = listing.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = words.split("elements = { ");
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (elements, rest) = part.split_once(" }").unwrap();
        let mut elements: Vec<_> = elements.split(", ").collect();
        elements.sort_unstable();
        normal = format!("{normal}elements = {{ {} }}{rest}", elements.join(", "));
    }
    normal
}

/// Puts comments of tables, chains and sets, which nft 1.0.6 does not read in JSON, on lines by themselves.
fn without_object_comments(listing: &str) -> String {
    let keep = |line: &&str| !line.trim_start().starts_with("comment \"");
    listing.lines().filter(keep).collect::<Vec<_>>().join("\n")
}

/// Expressions that nft lists in another spelling than it reads; we write the spelling that it reads.
fn as_listed(text: &str) -> String {
    let types = [
        ("icmpv6 type 133", "icmpv6 type nd-router-solicit"),
        ("icmpv6 type 134", "icmpv6 type nd-router-advert"),
        ("icmpv6 type 137", "icmpv6 type nd-redirect"),
        ("icmpv6 type 143", "icmpv6 type mld2-listener-report"),
        ("tcp flags & (fin | syn | rst | ack) == ack", "tcp flags ack / fin,syn,rst,ack"),
    ];
    types.iter().fold(text.to_owned(), |text, (ours, listed)| text.replace(ours, listed))
}

/// The first difference between two listings.
fn difference(one: &str, other: &str) -> String {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(100);
    let part = |text: &str| {
        String::from_utf8_lossy(text.as_bytes().get(from..).unwrap_or_default()).chars().take(250).collect::<String>()
    };
    format!("{}\nbut: {}", part(one), part(other))
}

#[test]
fn the_text_form_is_what_nft_lists_and_the_json_form_loads_the_same() {
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&arb_state(), |state| {
            let ruleset = render(Index::build("node-1", &state).compiled(), &Options::default());
            let list = "nft list table inet palisade";
            let from_text = in_namespace(&format!("nft -f -; {list}"), &text::script(&ruleset));
            let (listed, ours) = (normal(&from_text), normal(&as_listed(&text::ruleset(&ruleset))));
            prop_assert!(listed == ours, "{}", difference(&listed, &ours));
            let from_json = in_namespace(&format!("nft -j -f -; {list}"), &json::ruleset(&ruleset).to_string());
            let plain = without_object_comments(&from_text);
            let (json, text) = (normal(&without_object_comments(&from_json)), normal(&plain));
            prop_assert!(json == text, "{}", difference(&json, &text));
            Ok(())
        })
        .unwrap();
}

#[test]
fn loading_a_script_twice_leaves_one_table() {
    let state = palisade_policy::input::State::default();
    let script = text::script(&render(Index::build("node-1", &state).compiled(), &Options::default()));
    let twice = in_namespace(
        "cat >/dev/shm/$$; nft -f /dev/shm/$$; nft -f /dev/shm/$$; rm /dev/shm/$$; nft list table inet palisade",
        &script,
    );
    let once = in_namespace("nft -f -; nft list table inet palisade", &script);
    assert_eq!(twice, once);
}
