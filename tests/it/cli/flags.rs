//! What people type: the flags that verbs share, what shells complete, and the archive that krew installs.
//!
//! Seen to fail when: a verb lacks a flag of the others; `diff -n` keeps flows of another namespace, or names without a
//! namespace are in `default`; a shell offers files for a name, or for a directory; the archive has another layout or
//! checksum than the manifest for krew says.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cli::place::{Ended, PALISADE, Place, SHOP};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn verbs_that_answer_questions_share_their_flags() {
    let place = Place::new("flags", &[("x", "")]);
    let verbs = ["trace", "check", "pods", "diff", "graph", "explain flow", "explain pod", "explain policy"];
    for verb in verbs {
        let help = place.run(&format!("{verb} --help")).printed();
        let shared = ["-n, --namespace <NAMESPACE>", "-o, --output <FORMAT>", "--context <NAME>", "--kubeconfig <F>"];
        let of_lists = ["-A, --all-namespaces"];
        let is_list = ["check", "pods", "diff", "graph"].contains(&verb);
        for flag in shared.iter().chain(of_lists.iter().filter(|_| is_list)) {
            assert!(help.contains(flag), "{verb} has no {flag}: {help}");
        }
    }
}

#[test]
fn a_difference_may_be_of_one_namespace() {
    let with = |namespace: &str, port: &str| {
        let text =
            SHOP.replace("shop", namespace).replace("ports: [{port: 80}]", &format!("ports: [{{port: {port}}}]"));
        text.replace("namespace: ops", &format!("namespace: ops-{namespace}"))
    };
    let both =
        |one: &str, other: &str| with("shop", one) + "---\n" + &with("yard", other).replace("10.42.1", "10.42.2");
    let place = Place::new("one-namespace", &[("before.yaml", &both("80", "80")), ("after.yaml", &both("81", "82"))]);
    let changed = |arguments: &str| place.run(&format!("diff before.yaml after.yaml {arguments}")).denied();
    let (all, shop, yard) = (changed(""), changed("-n shop"), changed("-n yard"));
    assert_eq!(all, changed("-A"));
    assert!(shop.contains("TCP 81") && !shop.contains("TCP 82") && shop.contains("shop/db"), "{shop}");
    assert!(yard.contains("TCP 82") && !yard.contains("TCP 81") && yard.contains("yard/db"), "{yard}");
    let lines = |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let (all, each): (BTreeSet<String>, BTreeSet<String>) = (lines(&all), lines(&(shop + &yard)));
    assert_eq!(all, each);
    assert_eq!(place.run("diff before.yaml after.yaml -n elsewhere").printed(), "no flow changes\n");
    for file in ["before.yaml", "after.yaml"] {
        let text = fs::read_to_string(place.0.join(file)).unwrap().replace("namespace: shop, ", "");
        fs::write(place.0.join(file), text).unwrap();
    }
    assert!(changed("-n shop").contains("shop/db"));
}

#[test]
fn shells_complete_paths_to_files_and_names_to_nothing() {
    let place = Place::new("hints", &[("x", "")]);
    let fish = place.run("completions fish").printed();
    let line = |flag: &str| {
        let is_it = |line: &&str| line.contains("_subcommand trace\"") && line.contains(&format!(" -l {flag} "));
        fish.lines().find(is_it).unwrap_or_else(|| panic!("no {flag} in {fish}"))
    };
    for (flag, files) in [
        ("filename", true),
        ("kubeconfig", true),
        ("flows", true),
        ("conntrack", true),
        ("context", false),
        ("namespace", false),
        ("from", false),
    ] {
        let line = line(flag);
        assert_eq!((line.ends_with(" -F"), line.ends_with(" -f")), (files, !files), "{line}");
    }
    let zsh = place.run("completions zsh").printed();
    assert!(zsh.contains(":DIR:_files -/'"), "{zsh}");
}

#[test]
fn krew_installs_the_archive_of_a_release() {
    let place = Place::new("krew", &[("out/x", ""), ("bin/x", "")]);
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(&place.0).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("strip", &["-o", "program", PALISADE]);
    let [packed, out] = ["program", "out"].map(|name| place.0.join(name).to_str().unwrap().to_owned());
    run(&format!("{ROOT}/hack/release"), &["--pack", &packed, &out]);
    let version = env!("CARGO_PKG_VERSION");
    let manifest = fs::read_to_string(place.0.join(format!("out/palisade-{version}.krew.yaml"))).unwrap();
    let manifest: Value = serde_saphyr::from_str(&manifest).unwrap();
    assert_eq!((&manifest["metadata"]["name"], &manifest["kind"]), (&"palisade".into(), &"Plugin".into()));
    assert_eq!(manifest["spec"]["version"], format!("v{version}"));
    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 2);
    let is_ours = |platform: &&Value| platform["selector"]["matchLabels"]["arch"] == machine;
    let platform = platforms.iter().find(is_ours).unwrap();
    // What krew does: check the sum, unpack, copy the files, link the program.
    let archive = Path::new("out").join(platform["uri"].as_str().unwrap().rsplit('/').next().unwrap());
    let sum = format!("{}  {}\n", platform["sha256"].as_str().unwrap(), archive.display());
    fs::write(place.0.join("sum"), sum).unwrap();
    run("sha256sum", &["--check", "sum"]);
    fs::create_dir(place.0.join("unpacked")).unwrap();
    run("tar", &["--extract", "--file", archive.to_str().unwrap(), "--directory", "unpacked"]);
    fs::create_dir(place.0.join("store")).unwrap();
    for file in platform["files"].as_array().unwrap() {
        assert_eq!(file["to"], ".");
        run("cp", &[&format!("unpacked/{}", file["from"].as_str().unwrap()), "store"]);
    }
    let program = place.0.join("store").join(platform["bin"].as_str().unwrap());
    symlink(program, place.0.join("bin/kubectl-palisade")).unwrap();
    let ended = Ended::of(Command::new(place.0.join("bin/kubectl-palisade")).arg("--help").output().unwrap());
    assert!(ended.printed().contains("Usage: kubectl-palisade <COMMAND>"));
    assert!(place.0.join("store/LICENSE").is_file(), "krew's index asks for it");
}
