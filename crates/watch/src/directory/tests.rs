//! Seen to fail when: a failed listing counts as a listing; a change without a notification stays unread; a new file is
//! read before it is closed; a directory that is back but empty counts as emptied.

use std::fs;

use nix::sys::inotify::AddWatchFlags as Flags;
use palisade_policy::input::{Change, Kind};

use super::*;
use crate::event::ListPart;
use crate::manifests::Limits;

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("palisade-store-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

fn policy(name: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{}}\n")
}

fn everything(path: &Path) -> Work {
    let mut dirty = Dirty::new(path.to_owned());
    dirty.everything();
    dirty.take()
}

#[test]
fn a_directory_that_is_back_but_empty_removes_nothing() {
    let path = directory("back");
    fs::write(path.join("a.yaml"), policy("a")).unwrap();
    let mut store = Store::new(path.clone());
    assert_eq!(store.refresh(&everything(&path)).last(), Some(&Event::List(ListPart::End(Kind::NetworkPolicy))));
    fs::remove_file(path.join("a.yaml")).unwrap();
    store.directory_returned();
    assert_eq!(store.refresh(&everything(&path)), []);
    // Nor does a later notification while it is still empty.
    assert_eq!(store.refresh(&Work { files: ["a.yaml".into()].into(), ..Work::default() }), []);
    fs::write(path.join("b.yaml"), policy("b")).unwrap();
    let events = store.refresh(&Work { files: ["b.yaml".into()].into(), ..Work::default() });
    let Some(Event::Changes(changes)) = events.first() else { panic!("{events:?}") };
    assert!(
        matches!(&changes[..], [Change::Policy(b), Change::PolicyGone(a)] if &*b.key.name == "b" && &*a.name == "a")
    );
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn notifications_decide_which_files_are_read() {
    let path = directory("dirty");
    fs::write(path.join("new.yaml"), "").unwrap();
    fs::write(path.join("first.yaml"), "").unwrap();
    fs::hard_link(path.join("first.yaml"), path.join("linked.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", path.join("symlink.yaml")).unwrap();
    let noted = |events: &[(Flags, &str)]| {
        let mut dirty = Dirty::new(path.clone());
        for (mask, name) in events {
            dirty.note_one(*mask, Some(name.as_ref()));
        }
        dirty.take()
    };
    let files = |names: &[&str]| Work { files: names.iter().map(Into::into).collect(), ..Work::default() };
    let in_writing = |name: &str| Work { in_writing: [name.into()].into(), ..Work::default() };
    assert_eq!(noted(&[(Flags::IN_CREATE, "new.yaml")]), in_writing("new.yaml"));
    assert_eq!(noted(&[(Flags::IN_CREATE, "new.yaml"), (Flags::IN_CLOSE_WRITE, "new.yaml")]), files(&["new.yaml"]));
    assert_eq!(noted(&[(Flags::IN_CLOSE_WRITE, "new.yaml"), (Flags::IN_MODIFY, "new.yaml")]), in_writing("new.yaml"));
    assert_eq!(noted(&[(Flags::IN_MOVED_FROM, "new.yaml"), (Flags::IN_CREATE, "new.yaml")]), in_writing("new.yaml"));
    assert_eq!(noted(&[(Flags::IN_MODIFY, "new.yaml"), (Flags::IN_DELETE, "new.yaml")]), files(&["new.yaml"]));
    assert_eq!(noted(&[(Flags::IN_CREATE, "linked.yaml")]), files(&["linked.yaml"]));
    assert_eq!(noted(&[(Flags::IN_CREATE, "symlink.yaml")]), files(&["symlink.yaml"]));
    assert_eq!(noted(&[(Flags::IN_MOVED_TO, "..data")]), Work { all: true, ..Work::default() });
    assert_eq!(noted(&[(Flags::IN_CLOSE_WRITE, ".new.yaml.swp"), (Flags::IN_MOVED_TO, "new.yaml~")]), Work::default());
    let recheck = Work { recheck: ["new.yaml".into()].into(), ..Work::default() };
    assert_eq!(noted(&[(Flags::IN_ATTRIB, "new.yaml")]), recheck);

    let mut dirty = Dirty::new(path.clone());
    dirty.note_one(Flags::IN_MODIFY, Some("new.yaml".as_ref()));
    assert!(!dirty.is_anything(), "nothing to read until it is closed");
    dirty.everything();
    assert_eq!(dirty.take().in_writing.len(), 1);
    assert_eq!(dirty.take(), in_writing("new.yaml"), "still being written");
    dirty.note_one(Flags::IN_Q_OVERFLOW, None);
    assert_eq!(dirty.take(), Work { all: true, ..Work::default() }, "the close may have been missed");
    dirty.note_one(Flags::IN_DELETE_SELF, None);
    assert!(dirty.directory_is_gone());
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn too_large_content_is_refused_until_it_is_smaller() {
    let path = directory("limits");
    let length = u64::try_from(policy("a").len()).unwrap();
    let limits = Limits { file: 2 * length, total: 3 * length, files: 3 };
    let mut store = Store::with_limits(path.clone(), limits);
    let policies = |store: &Store| store.in_force.policies.keys().map(|key| key.name.to_string()).collect::<Vec<_>>();
    let write = |name: &str, text: &str| {
        fs::write(path.join(name), text).unwrap();
        Work { files: [name.into()].into(), ..Work::default() }
    };
    let rejected = |events: &[Event]| match events {
        [Event::FileRejected { errors, .. }] => errors.to_string(),
        other => panic!("{other:?}"),
    };
    write("a.yaml", &policy("a"));
    assert_eq!(store.refresh(&everything(&path)).last(), Some(&Event::List(ListPart::End(Kind::NetworkPolicy))));

    // One file.
    let spaces = " ".repeat(usize::try_from(2 * length).unwrap());
    assert!(
        rejected(&store.refresh(&write("a.yaml", &(policy("b") + &spaces)))).contains("a.yaml: cannot be read: it is")
    );
    assert_eq!(policies(&store), ["a"]);
    store.refresh(&write("a.yaml", &policy("a")));

    // All of them: the third is too much until another shrinks; then it is accepted without being touched.
    store.refresh(&write("b.yaml", &(policy("b") + &policy("c"))));
    assert!(rejected(&store.refresh(&write("d.yaml", &policy("d")))).contains("all manifests together"));
    store.refresh(&write("b.yaml", &policy("b")));
    store.refresh(&Work { altered: true, ..Work::default() });
    assert_eq!(policies(&store), ["a", "b", "d"]);

    // Their number: nothing changes until it is within the limit again.
    fs::remove_file(path.join("a.yaml")).unwrap();
    fs::write(path.join("e.yaml"), "").unwrap();
    let work = write("f.yaml", "");
    let events = store.refresh(&work);
    assert!(
        matches!(&events[..], [Event::Failed(failure)] if failure.message.contains("more than 3 manifests")),
        "{events:?}"
    );
    assert_eq!(policies(&store), ["a", "b", "d"]);
    fs::remove_file(path.join("f.yaml")).unwrap();
    store.refresh(&Work { files: ["f.yaml".into()].into(), ..Work::default() });
    assert_eq!(policies(&store), ["b", "d"]);
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn changes_without_a_notification_are_found_and_nothing_is_read_twice() {
    let path = directory("altered");
    fs::write(path.join("a.yaml"), policy("a")).unwrap();
    fs::write(path.join("b.yaml"), policy("b")).unwrap();
    let mut store = Store::new(path.clone());
    store.refresh(&everything(&path));
    let look = Work { altered: true, ..Work::default() };
    assert!(store.paths(&look).unwrap().is_empty());
    fs::write(path.join("b.yaml"), policy("other")).unwrap();
    fs::write(path.join("c.yaml"), policy("c")).unwrap();
    fs::remove_file(path.join("a.yaml")).unwrap();
    let events = store.refresh(&look);
    let Some(Event::Changes(changes)) = events.first() else { panic!("{events:?}") };
    assert_eq!((changes.len(), store.in_force.policies.len()), (4, 2), "{changes:?}");
    assert!(store.paths(&look).unwrap().is_empty());
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_directory_that_held_too_much_at_the_start_is_read_once_it_holds_less() {
    let path = directory("crowd");
    fs::write(path.join("a.yaml"), policy("a")).unwrap();
    fs::write(path.join("b.yaml"), policy("b")).unwrap();
    let mut store = Store::with_limits(path.clone(), Limits { files: 1, ..Limits::WATCHED });
    let events = store.refresh(&everything(&path));
    assert!(matches!(&events[..], [Event::Failed(_)]), "{events:?}");
    fs::remove_file(path.join("b.yaml")).unwrap();
    let events = store.refresh(&Work { files: ["b.yaml".into()].into(), ..Work::default() });
    assert_eq!(events.last(), Some(&Event::List(ListPart::End(Kind::NetworkPolicy))));
    assert_eq!(store.in_force.policies.len(), 1, "synced without having been listed");
    fs::remove_dir_all(&path).unwrap();
}
