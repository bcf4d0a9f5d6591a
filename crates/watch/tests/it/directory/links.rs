//! Symlinks in the path of the directory.
//!
//! Seen to fail when: a switched link is noticed only at the next check.

use super::*;

/// Well below the interval between two checks of the path, which is 2 s.
const AT_ONCE: Duration = Duration::from_millis(700);

/// A directory with releases, each with a policy of the same name.
fn releases(name: &str, releases: &[&str]) -> PathBuf {
    let root = Bed::prepare(name, &[]);
    for release in releases {
        fs::create_dir_all(root.join("releases").join(release).join("manifests")).unwrap();
        fs::write(root.join("releases").join(release).join("manifests/p.yaml"), policy(release)).unwrap();
    }
    root
}

/// Switches a link to another target in one step.
fn switch(link: &Path, target: impl AsRef<Path>) {
    let next = link.with_file_name("link-to-come");
    symlink(target, &next).unwrap();
    fs::rename(&next, link).unwrap();
}

impl Bed {
    /// Waits until exactly this policy is in force, for less time than to the next check of the path.
    async fn switched_at_once(&mut self, policy: &str) {
        let start = std::time::Instant::now();
        self.until_policies(&[policy]).await;
        let took = start.elapsed();
        assert!(took < AT_ONCE, "{policy} is in force after {took:?}");
    }

    /// No event so far removed a policy without adding one.
    fn never_without_a_policy(&self) {
        let without = self.log.iter().filter(|event| {
            event.iter().any(|line| line.ends_with("gone")) && !event.iter().any(|line| !line.ends_with("gone"))
        });
        assert_eq!(without.count(), 0, "{:?}", self.log);
    }
}

#[tokio::test]
async fn a_switched_link_is_followed_at_once() {
    for (name, absolute) in [("absolute", true), ("relative", false)] {
        let root = releases(name, &["v41", "v42", "v43"]);
        let target = |release: &str| {
            let relative = Path::new("releases").join(release);
            if absolute { root.join(relative) } else { relative }
        };
        symlink(target("v41"), root.join("current")).unwrap();
        let mut bed = Bed::watch(root.join("current/manifests"));
        bed.until("synced", |bed| bed.synced).await;
        assert_eq!(bed.policies(), ["v41"]);
        bed.log.clear();
        // The old target stays.
        switch(&root.join("current"), target("v42"));
        bed.switched_at_once("v42").await;
        // And is deleted right after.
        switch(&root.join("current"), target("v43"));
        fs::remove_dir_all(root.join("releases/v42")).unwrap();
        bed.switched_at_once("v43").await;
        bed.never_without_a_policy();
        assert_eq!((bed.failures, bed.rejected.len()), (0, 0));
        fs::write(root.join("current/manifests/p.yaml"), policy("v44")).unwrap();
        bed.switched_at_once("v44").await;
        fs::remove_dir_all(&root).unwrap();
    }
}

#[tokio::test]
async fn a_link_behind_a_link_is_followed_too() {
    let root = releases("nested", &["v41", "v42", "v43"]);
    fs::create_dir(root.join("channels")).unwrap();
    symlink("../releases/v41", root.join("channels/stable")).unwrap();
    symlink("../releases/v42", root.join("channels/next")).unwrap();
    symlink("channels/stable", root.join("current")).unwrap();
    let mut bed = Bed::watch(root.join("current/manifests"));
    bed.until("synced", |bed| bed.synced).await;
    switch(&root.join("channels/stable"), "../releases/v43");
    bed.switched_at_once("v43").await;
    switch(&root.join("current"), "channels/next");
    bed.switched_at_once("v42").await;
    // Now this one is in the path, and the other is not.
    switch(&root.join("channels/next"), "../releases/v41");
    bed.switched_at_once("v41").await;
    bed.never_without_a_policy();
    assert_eq!(bed.failures, 0);
    fs::remove_dir_all(&root).unwrap();
}

#[tokio::test]
async fn a_link_that_leads_nowhere_for_a_while_loses_nothing() {
    let root = releases("dangling", &["v41", "v42"]);
    symlink("releases/v41", root.join("current")).unwrap();
    let mut bed = Bed::watch(root.join("current/manifests"));
    bed.until("synced", |bed| bed.synced).await;
    bed.log.clear();
    switch(&root.join("current"), "releases/v43");
    bed.until("reported", |bed| bed.failures == 1).await;
    assert_eq!((bed.policies(), &bed.log[..]), (vec!["v41".to_owned()], &NOTHING[..]));
    // Its target appears.
    fs::rename(root.join("releases/v42"), root.join("releases/v43")).unwrap();
    bed.switched_at_once("v42").await;
    // No link, then one again.
    fs::remove_file(root.join("current")).unwrap();
    bed.until("reported", |bed| bed.failures == 2).await;
    symlink("releases/v41", root.join("current")).unwrap();
    bed.switched_at_once("v41").await;
    bed.never_without_a_policy();
    fs::remove_dir_all(&root).unwrap();
}

#[tokio::test]
async fn a_mount_whose_data_is_swapped_is_followed_at_once() {
    let root = Bed::prepare("data", &[]);
    for (name, file) in [("..2026_1", "a"), ("..2026_2", "b")] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("p.yaml"), policy(file)).unwrap();
    }
    symlink("..2026_1", root.join("..data")).unwrap();
    let mut bed = Bed::watch(root.join("..data"));
    bed.until("synced", |bed| bed.synced).await;
    switch(&root.join("..data"), "..2026_2");
    bed.switched_at_once("b").await;
    bed.never_without_a_policy();
    fs::remove_dir_all(&root).unwrap();
}
