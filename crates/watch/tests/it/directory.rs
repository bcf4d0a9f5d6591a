//! The manifest directory as a source: a real directory and real inotify events.
//!
//! Seen to fail when: another directory at the same path goes unnoticed; a named pipe is opened like a file; a rejected
//! file loses its content; a file is read while it is written; the swap of `..data` goes unnoticed; lists are sent
//! although a file is bad; an object may be in two files; a file that lost an object to another is not retried when the
//! other gives way; deleted files stay; an edit in several steps is not waited for; warnings are repeated.

mod links;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::gather::Gather;
use palisade_policy::input::{Change, State};
use palisade_watch::{Arrival, Event, Kind, ManifestDirectory, ManifestErrors};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// A source on a test's directory, and the state that a receiver would keep.
struct Bed {
    path: PathBuf,
    rx: Receiver<Arrival>,
    task: JoinHandle<()>,
    state: State,
    gather: Gather,
    /// The number of lists received.
    lists: usize,
    synced: bool,
    rejected: BTreeMap<PathBuf, ManifestErrors>,
    /// Every change so far as text, one line for each event.
    log: Vec<Vec<String>>,
    failures: usize,
    warnings: Vec<String>,
}

impl Bed {
    /// A directory with these files, not yet watched.
    fn prepare(name: &str, files: &[(&str, String)]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("palisade-directory-{}-{name}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        path
    }

    fn watch(path: PathBuf) -> Self {
        let source = ManifestDirectory::open(&path).unwrap();
        let (tx, rx) = channel(1);
        let task = tokio::spawn(async move { source.run(tx).await.unwrap() });
        Self {
            path,
            rx,
            task,
            state: State::default(),
            gather: Gather::default(),
            lists: 0,
            synced: false,
            rejected: BTreeMap::new(),
            log: Vec::new(),
            failures: 0,
            warnings: Vec::new(),
        }
    }

    async fn start(name: &str, files: &[(&str, String)]) -> Self {
        let mut bed = Self::watch(Self::prepare(name, files));
        bed.until("synced", |bed| bed.synced).await;
        bed.log.clear();
        bed
    }

    async fn one(&mut self) {
        let event = timeout(PATIENCE, self.rx.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("no event after {:?}", self.log)).expect("a living source");
        self.take(event.event);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Changes(changes) => {
                let coming = Kind::ALL.into_iter().any(|kind| self.gather.is_coming(kind));
                assert!(self.synced && !coming, "a single change before all is listed");
                self.log.push(changes.iter().map(words).collect());
                for change in changes {
                    self.state.apply(change);
                }
            }
            Event::List(part) => {
                assert!(!self.synced, "a fourth list");
                if let Some(list) = self.gather.take(part) {
                    self.log.push(vec![words(&list)]);
                    self.state.apply(list);
                    self.lists += 1;
                    self.synced = self.lists == Kind::ALL.len();
                }
            }
            Event::FileRejected { file, errors } => {
                self.rejected.insert(file, errors);
            }
            Event::FileRecovered { file } => {
                self.rejected.remove(&file).expect("was rejected");
            }
            Event::Failed(failure) => {
                assert_eq!(failure.reason, "directory");
                self.failures += 1;
            }
            Event::Warning { message, .. } => self.warnings.push(message),
            Event::PodRanges(_) | Event::NamespaceAnswer { .. } | Event::ObjectAnswer { .. } => {
                panic!("manifests know no nodes and answer nothing")
            }
        }
    }

    /// Receives until the condition holds.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(tokio::time::Instant::now() < end, "not within {PATIENCE:?}: {what}; {:?}", self.log);
            self.one().await;
        }
    }

    async fn until_policies(&mut self, names: &[&str]) {
        self.until(&format!("policies {names:?}"), |bed| bed.policies() == names).await;
    }

    fn policies(&self) -> Vec<String> {
        self.state.policies.keys().map(|key| key.name.to_string()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// Makes a change that is seen after all changes before it, and waits for it, then removes it.
    async fn settle(&mut self) {
        let mark = format!("mark-{}", self.log.len());
        self.write("zz-mark.yaml", &policy(&mark));
        let seen = mark.clone();
        self.until("the mark", |bed| bed.policies().contains(&seen)).await;
        fs::remove_file(self.file("zz-mark.yaml")).unwrap();
        self.until("no mark", |bed| !bed.policies().contains(&mark)).await;
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.task.abort();
        if self.path.exists() {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }
}

fn words(change: &Change) -> String {
    match change {
        Change::Pod(pod) => format!("pod {}", pod.key),
        Change::PodGone(key) => format!("pod {key} gone"),
        Change::Namespace(namespace) => format!("namespace {}", namespace.name),
        Change::NamespaceGone(name) => format!("namespace {name} gone"),
        Change::Policy(policy) => format!("policy {}", policy.key),
        Change::PolicyGone(key) => format!("policy {key} gone"),
        Change::Pods(pods) => format!("{} pods", pods.len()),
        Change::Namespaces(namespaces) => format!("{} namespaces", namespaces.len()),
        Change::Policies(policies) => format!("{} policies", policies.len()),
    }
}

fn policy(name: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{podSelector: {{}}}}\n"
    )
}

fn pod(name: &str, label: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {label}}}}}\n")
}

const NOTHING: [Vec<String>; 0] = [];

#[tokio::test]
async fn three_lists_then_precise_changes() {
    let files = [("a.yaml", policy("one") + &policy("two") + &pod("web", "x") + &pod("db", "x"))];
    let mut bed = Bed::watch(Bed::prepare("precise", &files));
    bed.until("synced", |bed| bed.synced).await;
    assert_eq!(bed.log, [vec!["2 namespaces"], vec!["2 pods"], vec!["2 policies"]]);
    bed.log.clear();

    bed.write("a.yaml", &(policy("two") + &policy("three") + &pod("web", "z") + &pod("db", "x")));
    bed.until_policies(&["three", "two"]).await;
    assert_eq!(bed.log, [vec!["policy default/three", "pod shop/web", "policy default/one gone"]]);
    bed.log.clear();

    bed.write("a.yaml", &pod("db", "x"));
    bed.until_policies(&[]).await;
    let gone = ["pod shop/web gone", "policy default/three gone", "policy default/two gone", "namespace default gone"];
    assert_eq!(bed.log, [gone]);
    bed.log.clear();

    // Unchanged text, and files with other names, change nothing.
    bed.write("a.yaml", &format!("# edited\n{}", pod("db", "x")));
    bed.write(".a.yaml.swp", "x: [");
    bed.write("notes.txt", "x: [");
    bed.settle().await;
    assert_eq!(bed.log.len(), 2, "{:?}", bed.log);
}

#[tokio::test]
async fn files_are_added_renamed_over_moved_away_and_removed() {
    let mut bed = Bed::start("files", &[("a.yaml", policy("a"))]).await;
    bed.write("b.yaml", &policy("b"));
    bed.until_policies(&["a", "b"]).await;
    bed.write(".b.yaml.tmp", &policy("c"));
    fs::rename(bed.file(".b.yaml.tmp"), bed.file("b.yaml")).unwrap();
    bed.until_policies(&["a", "c"]).await;
    fs::hard_link(bed.file("b.yaml"), bed.file("kept.bak")).unwrap();
    fs::remove_file(bed.file("b.yaml")).unwrap();
    bed.until_policies(&["a"]).await;
    fs::hard_link(bed.file("kept.bak"), bed.file("b.yaml")).unwrap();
    bed.until_policies(&["a", "c"]).await;
    fs::rename(bed.file("a.yaml"), bed.file("a.yaml~")).unwrap();
    bed.until_policies(&["c"]).await;
    bed.write("b.yaml", "");
    bed.until_policies(&[]).await;
    assert!(bed.rejected.is_empty());
}

#[tokio::test]
async fn an_editor_that_moves_the_old_file_away_first_removes_nothing() {
    let mut bed = Bed::start("backup", &[("a.yaml", policy("a"))]).await;
    for round in 0..20 {
        fs::rename(bed.file("a.yaml"), bed.file("a.yaml~")).unwrap();
        // The source sees the first step before the second happens.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        bed.write("a.yaml", &(policy("a") + &policy(&format!("round-{round}"))));
        bed.until("the round", |bed| bed.policies().contains(&format!("round-{round}"))).await;
    }
    let removed = bed.log.iter().flatten().filter(|line| line.contains("default/a gone")).count();
    assert_eq!(removed, 0, "{:?}", bed.log);
}

#[tokio::test]
async fn a_file_is_not_read_while_it_is_written() {
    use std::io::Write;
    let whole = policy("a") + &policy("b") + &policy("c");
    let mut bed = Bed::start("writing", &[("a.yaml", whole.clone())]).await;
    // In place, in steps that are each good YAML but incomplete.
    let mut file = fs::File::create(bed.file("a.yaml")).unwrap();
    let mut fresh = fs::File::create(bed.file("new.yaml")).unwrap();
    for part in [policy("a"), policy("b"), policy("c"), policy("d")] {
        file.write_all(part.as_bytes()).unwrap();
        fresh.write_all(part.replace("name: ", "name: new-").as_bytes()).unwrap();
        bed.settle().await;
    }
    let marks =
        |bed: &Bed| bed.log.iter().flatten().filter(|line| !line.contains("mark-")).cloned().collect::<Vec<_>>();
    assert_eq!(marks(&bed), Vec::<String>::new());
    drop((file, fresh));
    bed.until_policies(&["a", "b", "c", "d", "new-a", "new-b", "new-c", "new-d"]).await;
}

#[tokio::test]
async fn a_config_map_is_swapped_as_a_whole() {
    let path = Bed::prepare("config-map", &[]);
    let generation = |number: u32, files: &[(&str, String)]| {
        let name = format!("..2026_{number}");
        fs::create_dir(path.join(&name)).unwrap();
        for (file, text) in files {
            fs::write(path.join(&name).join(file), text).unwrap();
        }
        symlink(&name, path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    };
    generation(1, &[("a.yaml", policy("a")), ("b.yaml", policy("b"))]);
    symlink("..data/a.yaml", path.join("a.yaml")).unwrap();
    symlink("..data/b.yaml", path.join("b.yaml")).unwrap();
    let mut bed = Bed::watch(path.clone());
    bed.until("synced", |bed| bed.synced).await;
    assert_eq!(bed.policies(), ["a", "b"]);
    bed.log.clear();

    // Both files change, and one object moves from one to the other: one change.
    generation(2, &[("a.yaml", policy("b")), ("b.yaml", policy("c"))]);
    fs::remove_dir_all(path.join("..2026_1")).unwrap();
    bed.until_policies(&["b", "c"]).await;
    assert_eq!(bed.log, [vec!["policy default/c", "policy default/a gone"]]);

    generation(3, &[("b.yaml", policy("c")), ("d.yaml", policy("d"))]);
    symlink("..data/d.yaml", path.join("d.yaml")).unwrap();
    fs::remove_file(path.join("a.yaml")).unwrap();
    bed.until_policies(&["c", "d"]).await;
}

#[tokio::test]
async fn a_file_that_stops_parsing_keeps_what_it_held() {
    let mut bed = Bed::start("bad", &[("a.yaml", policy("a")), ("b.yaml", policy("b"))]).await;
    let file = bed.file("a.yaml");
    bed.write("a.yaml", "kind: [\n");
    bed.until("rejected", |bed| bed.rejected.contains_key(&file)).await;
    bed.write("b.yaml", &policy("c"));
    bed.until_policies(&["a", "c"]).await;
    // A different error is reported again; the same one is not.
    let first = bed.rejected[&file].clone();
    bed.write("a.yaml", &policy("a").replace("podSelector", "podselector"));
    bed.until("rejected with another error", |bed| bed.rejected[&file] != first).await;
    let finding = &bed.rejected[&file].findings[0];
    assert_eq!((finding.line, finding.field.as_str()), (Some(5), "spec.podselector"));
    bed.write("a.yaml", &policy("d"));
    bed.until("mended", |bed| bed.rejected.is_empty()).await;
    bed.until_policies(&["c", "d"]).await;
    // A bad file that is removed takes its last good content with it.
    bed.write("a.yaml", "kind: [\n");
    bed.until("rejected", |bed| bed.rejected.contains_key(&file)).await;
    fs::remove_file(&file).unwrap();
    bed.until_policies(&["c"]).await;
    assert!(bed.rejected.is_empty());
}

#[tokio::test]
async fn a_bad_file_at_the_start_lets_nothing_through() {
    let path =
        Bed::prepare("start", &[("a.yaml", policy("a")), ("b.yaml", "x: [".to_owned()), ("c.yaml", policy("a"))]);
    let mut bed = Bed::watch(path);
    bed.until("all rejected", |bed| bed.rejected.len() == 3).await;
    bed.write("b.yaml", &policy("b"));
    bed.until("b mended", |bed| bed.rejected.len() == 2).await;
    assert!(!bed.synced && bed.log == NOTHING);
    let errors = bed.rejected[&bed.file("c.yaml")].to_string();
    assert!(errors.contains("NetworkPolicy default/a is written twice: it is also at"), "{errors}");
    bed.write("c.yaml", &policy("c"));
    bed.until("synced", |bed| bed.synced).await;
    assert!(bed.rejected.is_empty());
    assert_eq!(bed.policies(), ["a", "b", "c"]);
}

#[tokio::test]
async fn an_object_in_two_files_stays_where_it_was_first() {
    let mut bed = Bed::start("twice", &[("a.yaml", policy("a")), ("b.yaml", policy("b"))]).await;
    let file = bed.file("b.yaml");
    bed.write("b.yaml", &(policy("b") + &policy("a") + &policy("c")));
    bed.until("rejected", |bed| bed.rejected.contains_key(&file)).await;
    assert_eq!(bed.policies(), ["a", "b"]);
    let finding = &bed.rejected[&file].findings[0];
    assert_eq!((finding.file.as_path(), finding.line, finding.document), (file.as_path(), Some(7), Some(2)));
    // The other file gives way: this one can be accepted, although it was not touched.
    bed.write("a.yaml", &policy("d"));
    bed.until_policies(&["a", "b", "c", "d"]).await;
    assert!(bed.rejected.is_empty());
    let gone = bed.log.iter().flatten().filter(|line| line.contains("gone")).count();
    assert_eq!(gone, 0, "{:?}", bed.log);
}

#[tokio::test]
async fn a_directory_that_goes_away_keeps_its_content() {
    let mut bed = Bed::start("away", &[("a.yaml", policy("a"))]).await;
    let elsewhere = bed.path.with_extension("elsewhere");
    fs::rename(&bed.path, &elsewhere).unwrap();
    bed.until("reported", |bed| bed.failures == 1).await;
    // Changes there no longer count; an empty new directory does not count yet.
    fs::write(elsewhere.join("b.yaml"), policy("b")).unwrap();
    fs::create_dir(&bed.path).unwrap();
    bed.write("c.yaml.part", &policy("c"));
    fs::rename(bed.file("c.yaml.part"), bed.file("c.yaml")).unwrap();
    bed.until_policies(&["c"]).await;
    assert_eq!(bed.log, [vec!["policy default/c", "policy default/a gone"]]);
    fs::remove_dir_all(&elsewhere).unwrap();
    bed.write("d.yaml", &policy("d"));
    bed.until_policies(&["c", "d"]).await;
}

#[tokio::test]
async fn another_directory_at_the_same_path_is_noticed() {
    let root = Bed::prepare("elsewhere", &[]);
    for (name, file) in [("one", "a"), ("two", "b"), ("three", "c")] {
        fs::create_dir_all(root.join(name).join("manifests")).unwrap();
        fs::write(root.join(name).join("manifests/p.yaml"), policy(file)).unwrap();
    }
    // The link is switched, then its target is moved away and another takes its place.
    symlink("one", root.join("link")).unwrap();
    let mut bed = Bed::watch(root.join("link/manifests"));
    bed.until("synced", |bed| bed.synced).await;
    assert_eq!(bed.policies(), ["a"]);
    symlink("two", root.join("next")).unwrap();
    fs::rename(root.join("next"), root.join("link")).unwrap();
    bed.until_policies(&["b"]).await;
    assert_eq!(bed.failures, 0);
    fs::rename(root.join("two"), root.join("away")).unwrap();
    bed.until("reported", |bed| bed.failures == 1).await;
    assert_eq!(bed.policies(), ["b"]);
    fs::rename(root.join("three"), root.join("two")).unwrap();
    bed.until_policies(&["c"]).await;
    // From here on the new one is followed.
    bed.write("q.yaml", &policy("d"));
    bed.until_policies(&["c", "d"]).await;
    fs::remove_dir_all(&root).unwrap();
}

#[tokio::test]
async fn special_files_are_rejected_and_delay_nothing() {
    let mut bed = Bed::start("odd", &[("m.yaml", policy("m"))]).await;
    let pipe = bed.file("a.yaml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let socket = UnixListener::bind(bed.file("b.yaml")).unwrap();
    symlink("/dev/zero", bed.file("c.yaml")).unwrap();
    bed.write("z.yaml", &policy("z"));
    bed.until_policies(&["m", "z"]).await;
    bed.until("rejected", |bed| bed.rejected.len() == 3).await;
    for (file, what) in [("a.yaml", "a named pipe"), ("b.yaml", "a socket"), ("c.yaml", "a device")] {
        let errors = bed.rejected[&bed.file(file)].to_string();
        assert!(errors.contains(&format!("{file}: cannot be read: it is {what}, not a regular file")), "{errors}");
    }
    // Nor at a start, where they keep everything from being sent, with the reason.
    let mut again = Bed::watch(bed.path.clone());
    again.until("rejected", |bed| bed.rejected.len() == 3).await;
    drop(socket);
    for file in ["a.yaml", "b.yaml", "c.yaml"] {
        fs::remove_file(bed.file(file)).unwrap();
    }
    again.until("synced", |bed| bed.synced).await;
    bed.until("mended", |bed| bed.rejected.is_empty()).await;
    drop(bed);
}

#[tokio::test]
async fn an_unwatchable_directory_is_reported_at_once() {
    let missing = Path::new("/nonexistent/palisade");
    let error = ManifestDirectory::open(missing).unwrap_err();
    assert_eq!(error.to_string(), "the manifest directory /nonexistent/palisade cannot be watched");
    let path = Bed::prepare("file", &[("a.yaml", policy("a"))]);
    ManifestDirectory::open(path.join("a.yaml")).unwrap_err();
    fs::remove_dir_all(&path).unwrap();
}

#[tokio::test]
async fn warnings_come_once() {
    let text = policy("a").replace("spec: {podSelector: {}}\n", "");
    let mut bed = Bed::start("warnings", &[("a.yaml", text.clone())]).await;
    bed.until("warned", |bed| bed.warnings.len() == 1).await;
    bed.write("a.yaml", &(text.clone() + &policy("b")));
    bed.until_policies(&["a", "b"]).await;
    bed.settle().await;
    assert_eq!(bed.warnings.len(), 1, "{:?}", bed.warnings);
}

#[tokio::test]
async fn it_ends_without_a_receiver() {
    let path = Bed::prepare("ends", &[("a.yaml", policy("a"))]);
    let source = ManifestDirectory::open(&path).unwrap();
    let (tx, mut rx) = channel(16);
    let task = tokio::spawn(source.run(tx));
    assert!(timeout(PATIENCE, rx.recv()).await.unwrap().is_some());
    drop(rx);
    timeout(PATIENCE, task).await.expect("it ends").unwrap().unwrap();
    fs::remove_dir_all(&path).unwrap();
}
