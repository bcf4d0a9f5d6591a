//! The GitHub action and the hooks of pre-commit: their commands run, on a repository with a pull request in it.
//!
//! Seen to fail when: a command has an option that the program lacks; a flow that changes fails the job, or a mistake
//! does not; an earlier comment is not found; a pull request from a fork is commented; a checksum is not checked; the
//! page gives an input that the action lacks.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cli::place::{Ended, PALISADE, Place};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap()
}

/// A policy that allows a port.
fn policy(port: u16) -> String {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\n---\n"
        )
    };
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\nspec:\n  \
                  podSelector: {matchLabels: {app: db}}\n  ingress:\n  - from: [{podSelector: {matchLabels: {app: web}}}]\n    \
                  ports: [{port: PORT}]\n";
    pod("db") + &pod("web") + &policy.replace("PORT", &port.to_string())
}

/// A program on the path.
fn program(place: &Place, name: &str, script: &str) {
    let path = place.0.join("bin").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/usr/bin/env bash\n{script}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A clone whose base branch allows port 80 and whose work tree has these manifests.
fn repository(name: &str, manifests: &str) -> Place {
    let place = Place::new(name, &[("repo/manifests/all/db.yaml", &policy(80)), ("temp/x", ""), ("bin/x", "")]);
    let git = |arguments: &str| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "init.defaultBranch=main"]);
        git.args(arguments.split(' ')).current_dir(place.0.join("repo"));
        assert!(git.output().unwrap().status.success(), "git {arguments}");
    };
    git("init --quiet");
    git("add .");
    git("commit --quiet --message base");
    git("update-ref refs/remotes/origin/main HEAD");
    fs::write(place.0.join("repo/manifests/all/db.yaml"), manifests).unwrap();
    // What it is asked, and as many comments as the test gives it.
    program(&place, "gh", "printf '%s\\n' \"$*\" >> ../temp/gh\n[[ $* != *--jq* ]] || cat ../temp/comments\n");
    fs::write(place.0.join("temp/comments"), "").unwrap();
    place
}

/// What the runner knows of a pull request, and the inputs that the workflow of the page gives.
struct Event {
    fork: bool,
}

impl Event {
    /// A value with its expressions evaluated.
    fn text(&self, text: &str, inputs: &BTreeMap<String, String>) -> String {
        let mut text = text.to_owned();
        let head = if self.fork { "someone/fork" } else { "team/cluster" };
        let known = [
            ("github.base_ref", "main"),
            ("github.token", "secret"),
            ("github.event.number", "7"),
            ("github.event_name", "pull_request"),
            ("github.event.pull_request.head.repo.full_name", head),
            ("github.repository", "team/cluster"),
        ];
        while let Some((before, rest)) = text.clone().split_once("${{") {
            let (expression, after) = rest.split_once("}}").unwrap();
            let value = |term: &str| match term.trim().strip_prefix("inputs.") {
                Some(input) => inputs[input].clone(),
                None => match known.iter().find(|(name, _)| *name == term.trim()) {
                    Some((_, value)) => (*value).to_owned(),
                    None => term.trim().trim_matches('\'').to_owned(),
                },
            };
            let is_met = |term: &str| term.split_once("==").is_none_or(|(one, other)| value(one) == value(other));
            let is_condition = expression.contains("==");
            let value = if is_condition { expression.split("&&").all(is_met).to_string() } else { value(expression) };
            text = format!("{before}{value}{after}");
        }
        text
    }
}

/// Runs the steps of the action as the runner does, up to the first that fails.
fn run_action(place: &Place, event: &Event, given: &[(&str, &str)]) -> Ended {
    let action = yaml(&read("action.yml"));
    let mut inputs = BTreeMap::new();
    for (name, input) in action["inputs"].as_object().unwrap() {
        let default = input["default"].as_str().map_or_else(|| input["default"].to_string(), str::to_owned);
        let given = given.iter().find(|(own, _)| own == name).map(|(_, value)| (*value).to_owned());
        inputs.insert(name.clone(), given.unwrap_or_else(|| event.text(&default, &BTreeMap::new())));
    }
    assert!(given.iter().all(|(name, _)| inputs.contains_key(*name)), "{given:?}");
    assert_eq!(action["runs"]["using"], "composite");
    let mut all = Ended { status: Some(0), out: String::new(), err: String::new() };
    for step in action["runs"]["steps"].as_array().unwrap() {
        if step["if"].as_str().is_some_and(|condition| event.text(condition, &inputs) != "true") {
            continue;
        }
        let temp = place.0.join("temp");
        // The runner's own: bash --noprofile --norc -eo pipefail.
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().unwrap()]);
        bash.current_dir(place.0.join("repo")).env("RUNNER_TEMP", &temp).env("GITHUB_REPOSITORY", "team/cluster");
        bash.env("GITHUB_PATH", temp.join("path")).env("GITHUB_STEP_SUMMARY", temp.join("summary"));
        let added = fs::read_to_string(temp.join("path")).unwrap_or_default().replace('\n', ":");
        bash.env("PATH", format!("{added}{}:/usr/bin:/bin", place.0.join("bin").display()));
        for (name, value) in step["env"].as_object().unwrap() {
            bash.env(name, event.text(value.as_str().unwrap(), &inputs));
        }
        let ended = Ended::of(bash.output().unwrap());
        all = Ended { status: ended.status, out: all.out + &ended.out, err: all.err + &ended.err };
        if ended.status != Some(0) {
            break;
        }
    }
    all
}

fn temp(place: &Place, file: &str) -> String {
    fs::read_to_string(place.0.join("temp").join(file)).unwrap_or_default()
}

#[test]
fn the_action_comments_what_changes_and_annotates_mistakes() {
    let place = repository("action", &policy(81));
    symlink(PALISADE, place.0.join("bin/palisade")).unwrap();
    let own = Event { fork: false };
    let done = run_action(&place, &own, &[("path", "manifests")]);
    assert_eq!(done.status, Some(0), "{done:?}");
    let summary = temp(&place, "summary");
    assert!(
        summary.starts_with("**Network policy:** 1 opened, 1 closed.") && summary.contains("| TCP 81 |"),
        "{summary}"
    );
    assert_eq!(temp(&place, "comment.md"), format!("<!-- palisade diff -->\n{summary}"));
    let asked = temp(&place, "gh");
    let [search, post] = asked.lines().collect::<Vec<_>>()[..] else { panic!("{asked}") };
    assert!(search.starts_with("api --paginate repos/team/cluster/issues/7/comments --jq "), "{search}");
    assert!(post.starts_with("api --silent repos/team/cluster/issues/7/comments --field body=@"), "{post}");
    // The next push.
    fs::write(place.0.join("temp/comments"), "41\n42\n").unwrap();
    assert_eq!(run_action(&place, &own, &[]).status, Some(0));
    let asked = temp(&place, "gh");
    let last = asked.lines().last().unwrap();
    assert!(last.starts_with("api --silent --method PATCH repos/team/cluster/issues/comments/41 "), "{last}");

    let fork = Event { fork: true };
    assert_eq!(run_action(&place, &fork, &[("base", "nowhere")]).status, Some(1));
    assert_eq!(run_action(&place, &fork, &[]).status, Some(0));
    assert_eq!(temp(&place, "gh"), asked, "no comment");
    assert_eq!(run_action(&place, &own, &[("comment", "false")]).status, Some(0));
    assert_eq!(temp(&place, "gh"), asked, "no comment");
}

#[test]
fn the_action_annotates_mistakes_and_fails_at_last() {
    let more = policy(81) + "---\n" + policy(81).rsplit_once("---\n").unwrap().1;
    let more = more.replacen("name: db, namespace: shop}\nspec", "name: open, namespace: shop}\nspec", 1);
    let warned = repository(
        "action-warned",
        &more.replacen("from: [{podSelector: {matchLabels: {app: web}}}]", "from: null", 1),
    );
    symlink(PALISADE, warned.0.join("bin/palisade")).unwrap();
    let own = Event { fork: false };
    let done = run_action(&warned, &own, &[]);
    assert!(done.out.contains("::warning file=manifests/all/db.yaml,line=15,title=null-value::"), "{}", done.out);
    assert_eq!((done.status, temp(&warned, "gh").lines().count()), (Some(1), 2), "it comments first: {done:?}");
    assert_eq!(run_action(&warned, &own, &[("fail-on", "error")]).status, Some(0));

    let wrong = repository("action-wrong", &policy(81).replace("ingress:", "ingres:"));
    symlink(PALISADE, wrong.0.join("bin/palisade")).unwrap();
    let done = run_action(&wrong, &own, &[("fail-on", "error")]);
    assert_eq!((done.status, temp(&wrong, "gh").as_str()), (Some(1), ""), "{done:?}");
    assert!(done.out.contains("::error file=manifests/all/db.yaml,line=14,title=unknown-field::"), "{}", done.out);
}

#[test]
fn the_action_installs_the_release_that_has_its_checksum() {
    let place = repository("install", &policy(80));
    let machine = Ended::of(Command::new("uname").arg("-m").output().unwrap()).printed();
    let name = format!("palisade-{}-{}-linux", env!("CARGO_PKG_VERSION"), machine.trim());
    let release = place.0.join("release").join(&name);
    fs::create_dir_all(&release).unwrap();
    symlink(PALISADE, release.join("palisade")).unwrap();
    let pack = format!("tar --create --gzip --file {name}.tar.gz {name} && sha256sum {name}.tar.gz > SHA256SUMS");
    let packed = Command::new("bash").args(["-c", &pack]).current_dir(place.0.join("release")).status().unwrap();
    assert!(packed.success());
    program(&place, "curl", "for url; do case $url in https://*) cp \"../release/${url##*/}\" . ;; esac; done\n");
    let done = run_action(&place, &Event { fork: true }, &[]);
    assert_eq!(done.status, Some(0), "{done:?}");
    assert_eq!(temp(&place, "summary"), "**Network policy:** no flow changes.\n");
    fs::write(place.0.join("release/SHA256SUMS"), format!("{}  {name}.tar.gz\n", "0".repeat(64))).unwrap();
    fs::remove_file(place.0.join("temp/path")).unwrap();
    assert_eq!(run_action(&place, &Event { fork: true }, &[]).status, Some(1));
    assert_eq!(temp(&place, "path"), "");
}

#[test]
fn the_page_uses_the_action_of_this_version() {
    let page = read("docs/what-changes.md");
    let block = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let workflow = yaml(block);
    let steps = workflow["jobs"]["palisade"]["steps"].as_array().unwrap();
    let step = steps.last().unwrap();
    assert_eq!(step["uses"], format!("palisade/palisade@v{}", env!("CARGO_PKG_VERSION")));
    let action = yaml(&read("action.yml"));
    for name in step["with"].as_object().unwrap().keys() {
        assert!(action["inputs"][name].is_object(), "the action has no input {name}");
    }
    assert_eq!(action["inputs"]["version"]["default"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_hooks_check_the_files_of_a_commit() {
    let place = repository("hooks", &policy(80).replace("ingress:", "ingres:"));
    symlink(PALISADE, place.0.join("bin/palisade")).unwrap();
    fs::write(place.0.join("repo/manifests/good.yaml"), policy(80)).unwrap();
    let hooks = yaml(&read(".pre-commit-hooks.yaml"));
    let run = |hook: &Value, files: &[&str]| {
        for field in ["id", "name", "description", "language", "files"] {
            assert!(hook[field].is_string(), "{field} of {hook}");
        }
        let mut command = Command::new("env");
        command.args(hook["entry"].as_str().unwrap().split(' ')).args(files).current_dir(place.0.join("repo"));
        Ended::of(command.env("PATH", format!("{}:/usr/bin:/bin", place.0.join("bin").display())).output().unwrap())
    };
    let ids: Vec<_> = hooks.as_array().unwrap().iter().map(|hook| hook["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["palisade-check", "palisade-check-system"]);
    for hook in hooks.as_array().unwrap() {
        let good = run(hook, &["manifests/good.yaml"]);
        assert_eq!(good.status, Some(0), "{good:?}");
        let both = run(hook, &["manifests/good.yaml", "manifests/all/db.yaml"]);
        assert!(both.status == Some(1) && both.out.contains("error[unknown-field]"), "{both:?}");
    }
    let page = read("docs/check.md");
    let block = page.split("```yaml\n").find(|block| block.starts_with("repos:")).unwrap().split("```").next().unwrap();
    let used = &yaml(block)["repos"][0];
    assert_eq!(used["rev"], format!("v{}", env!("CARGO_PKG_VERSION")));
    assert!(ids.contains(&used["hooks"][0]["id"].as_str().unwrap()));
}
