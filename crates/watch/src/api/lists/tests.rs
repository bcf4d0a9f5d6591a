//! Seen to fail when: a single change passes before all is synced; a list that broke off is kept; `Synced` comes one list
//! early; changes or departures do not reach lists that are held back.

use palisade_policy::input::{Labels, Namespace, Pod};

use super::*;

fn pod(name: &str) -> Decoded {
    Decoded { object: Object::Pod(Pod::new(NamespacedName::new("n", name))), warnings: vec![] }
}

fn warned(name: &str, warning: &str) -> Decoded {
    Decoded { warnings: vec![warning.to_owned()], ..pod(name) }
}

fn namespace(name: &str) -> Decoded {
    Decoded { object: Object::Namespace(Namespace::new(name, Labels::new())), warnings: vec![] }
}

fn gone_pod(name: &str) -> Step {
    Step::Gone(ObjectName::pod(&NamespacedName::new("n", name)))
}

/// The names of what changed, with a `+` for a single object, a `-` for one gone, `[…]` for a list.
fn told(events: Vec<Event>) -> Vec<String> {
    let list = |names: Vec<String>| format!("[{}]", names.join(" "));
    let change = |change: Change| match change {
        Change::Pod(pod) => format!("+{}", pod.key.name),
        Change::PodGone(key) => format!("-{}", key.name),
        Change::Pods(pods) => format!("pods {}", list(pods.iter().map(|pod| pod.key.name.to_string()).collect())),
        Change::Namespaces(all) => format!("namespaces {}", list(all.iter().map(|n| n.name.to_string()).collect())),
        Change::Policies(all) => format!("policies {}", list(all.iter().map(|p| p.key.name.to_string()).collect())),
        other => format!("{other:?}"),
    };
    events
        .into_iter()
        .flat_map(|event| match event {
            Event::Changes(changes) => changes.into_iter().map(change).collect(),
            Event::Synced => vec!["synced".to_owned()],
            Event::Warning { message, .. } => vec![format!("warning {message}")],
            other => vec![format!("{other:?}")],
        })
        .collect()
}

fn run(lists: &mut Lists, kind: Kind, steps: impl IntoIterator<Item = Step>) -> Vec<String> {
    steps.into_iter().flat_map(|step| told(lists.take(kind, step))).collect()
}

fn synced() -> Lists {
    let mut lists = Lists::default();
    for kind in Kind::ALL {
        run(&mut lists, kind, [Step::ListBegins, Step::ListEnds]);
    }
    lists
}

#[test]
fn nothing_is_sent_until_all_three_are_listed() {
    let mut lists = Lists::default();
    let nothing: [&str; 0] = [];
    assert_eq!(run(&mut lists, Kind::Pod, [Step::Applied(pod("z")), gone_pod("z")]), nothing, "no list yet");
    let pods = [Step::ListBegins, Step::Listed(pod("a")), Step::Listed(pod("b")), Step::ListEnds];
    assert_eq!(run(&mut lists, Kind::Pod, pods), nothing);
    // Pods change while the others are still being listed.
    assert_eq!(run(&mut lists, Kind::Pod, [Step::Applied(pod("c")), gone_pod("a")]), nothing);
    let namespaces = [Step::ListBegins, Step::Listed(namespace("n")), Step::ListEnds];
    assert_eq!(run(&mut lists, Kind::Namespace, namespaces), nothing);
    // A second list of pods before the first was sent.
    let again = [Step::ListBegins, Step::Listed(pod("b")), Step::Listed(pod("d")), Step::ListEnds];
    assert_eq!(run(&mut lists, Kind::Pod, again), nothing);
    assert_eq!(run(&mut lists, Kind::Pod, [Step::Applied(pod("e")), gone_pod("d")]), nothing);
    let policies = [Step::ListBegins, Step::ListEnds];
    let all = run(&mut lists, Kind::NetworkPolicy, policies);
    assert_eq!(all, ["namespaces [n]", "pods [b e]", "policies []", "synced"]);
}

#[test]
fn afterwards_single_changes_pass_and_lists_replace_all() {
    let mut lists = synced();
    let steps = [Step::Applied(pod("a")), Step::Applied(pod("a")), gone_pod("a")];
    assert_eq!(run(&mut lists, Kind::Pod, steps), ["+a", "+a", "-a"]);
    let relist = [Step::ListBegins, Step::Listed(pod("x")), Step::ListBegins, Step::Listed(pod("y")), Step::ListEnds];
    assert_eq!(run(&mut lists, Kind::Pod, relist), ["pods [y]"], "a list that broke off counts for nothing");
}

#[test]
fn a_failure_changes_nothing() {
    let mut lists = synced();
    let failure = Failure { resource: Some(Kind::Pod), reason: "watch", message: "gone".to_owned() };
    assert_eq!(lists.take(Kind::Pod, Step::Failed(failure.clone())), [Event::Failed(failure)]);
}

#[test]
fn a_warning_is_sent_once_and_again_when_it_changes() {
    let mut lists = synced();
    let steps = ["x", "x", "y"].map(|warning| Step::Applied(warned("a", warning)));
    assert_eq!(run(&mut lists, Kind::Pod, steps), ["+a", "warning x", "+a", "+a", "warning y"]);
    assert_eq!(
        run(&mut lists, Kind::Pod, [Step::Applied(pod("a")), Step::Applied(warned("a", "y"))]),
        ["+a", "+a", "warning y"]
    );
    assert_eq!(run(&mut lists, Kind::Pod, [gone_pod("a"), Step::Applied(warned("a", "y"))]), ["-a", "+a", "warning y"]);
    let relist = [Step::ListBegins, Step::Listed(warned("a", "y")), Step::Listed(warned("b", "z")), Step::ListEnds];
    assert_eq!(run(&mut lists, Kind::Pod, relist), ["warning z", "pods [a b]"]);
    run(&mut lists, Kind::Pod, [Step::ListBegins, Step::ListEnds]);
    assert!(lists.warned.is_empty(), "objects that are gone are forgotten");
}
