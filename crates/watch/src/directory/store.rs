//! The content of a directory's files, and the events when it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use palisade_policy::input::{Change, Kind, Object};

use super::dirty::Work;
use crate::decode::DEFAULT_NAMESPACE;
use crate::event::{Event, Failure, ListPart};
use crate::finding::{Finding, ManifestErrors};
use crate::manifests::{
    Assembled, Content, Duplicate, Identity, Limits, Reading, assemble, duplicates, manifests_in, parse_text,
    read_found,
};

/// Objects per page of a list.
const PAGE: usize = 500;

/// The files of a directory and the objects in force.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    files: BTreeMap<PathBuf, FileState>,
    pub(super) in_force: Assembled,
    started: bool,
    /// The directory was gone and has had no manifest since.
    was_gone: bool,
    /// The last listing failed, so every file must still be read.
    unlisted: bool,
    limits: Limits,
    /// Bytes of all files.
    total: u64,
}

/// One file.
#[derive(Debug, Default)]
struct FileState {
    /// Its content in force.
    applied: Option<Content>,
    /// Content without mistakes that is not in force yet.
    pending: Option<Content>,
    /// Why its content on disk is not in force; empty if it is.
    rejected: Vec<Finding>,
    /// The findings last sent to the receiver.
    reported: Vec<Finding>,
    /// Its size and identity when it was last read.
    size: u64,
    identity: Option<Identity>,
}

impl FileState {
    fn candidate(&self) -> Option<&Content> {
        self.pending.as_ref().or(self.applied.as_ref())
    }
}

impl Store {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self::with_limits(directory, Limits::WATCHED)
    }

    pub(super) fn with_limits(directory: PathBuf, limits: Limits) -> Self {
        Self {
            directory,
            files: BTreeMap::new(),
            in_force: Assembled::default(),
            started: false,
            was_gone: false,
            unlisted: false,
            limits,
            total: 0,
        }
    }

    /// The directory is back; its content may not be complete yet.
    pub(super) fn directory_returned(&mut self) {
        self.was_gone = true;
    }

    /// Reads what is dirty and returns the resulting events.
    pub(super) fn refresh(&mut self, work: &Work) -> Vec<Event> {
        let mut events = Vec::new();
        let mut gone = Vec::new();
        let readable = match self.paths(work) {
            Ok(paths) => {
                for path in paths {
                    self.reread(path, &mut gone);
                }
                true
            }
            Err(error) => {
                events.push(self.unreadable(&error));
                false
            }
        };
        let mut warnings = self.accept();
        self.report_rejections(gone, &mut events);
        if self.started {
            self.put_in_force(&mut events);
        } else if readable && self.files.values().all(|file| file.rejected.is_empty()) {
            let applied = self.files.values().filter_map(|file| file.applied.as_ref());
            warnings = applied.flat_map(|content| content.warnings.iter().cloned()).collect();
            self.put_in_force(&mut events);
        }
        let warnings = warnings.into_iter().filter(|warning| self.started && !warning.flaw.is_advice());
        events.extend(
            warnings.map(|warning| Event::Warning { object: warning.object.clone(), message: warning.to_string() }),
        );
        events
    }

    fn unreadable(&self, error: &io::Error) -> Event {
        let message = format!("the directory {} cannot be read: {error}", self.directory.display());
        Event::Failed(Failure { resource: None, reason: "directory", message })
    }

    /// The files to read: those on disk and, if all must be read, those that were there before.
    pub(super) fn paths(&mut self, work: &Work) -> io::Result<BTreeSet<PathBuf>> {
        let mut paths: BTreeSet<_> = work.files.iter().map(|name| self.directory.join(name)).collect();
        let recheck = work.recheck.iter().map(|name| self.directory.join(name));
        paths.extend(recheck.filter(|path| self.files.get(path).is_some_and(|file| !file.rejected.is_empty())));
        // A new file may exceed the limit: list to find out.
        let grows = paths.iter().any(|path| !self.files.contains_key(path)) && self.files.len() >= self.limits.files;
        let all = work.all || self.was_gone || self.unlisted;
        if all || work.altered || grows {
            self.unlisted = true;
            let listed = manifests_in(&self.directory, self.limits.files)?;
            self.unlisted = false;
            if self.was_gone && listed.is_empty() {
                return Ok(BTreeSet::new());
            }
            self.was_gone = false;
            let known = self.files.keys().cloned();
            let candidates = listed.into_iter().chain(known).filter(|path| all || self.is_altered(path));
            paths.extend(candidates.collect::<Vec<_>>());
        }
        paths.retain(|path| path.file_name().is_none_or(|name| !work.in_writing.contains(name)));
        Ok(paths)
    }

    /// Whether reading a file again may give a different result.
    fn is_altered(&self, path: &Path) -> bool {
        let now = Identity::at(path).ok();
        self.files.get(path).is_none_or(|file| now.is_none() || now != file.identity || !file.rejected.is_empty())
    }

    fn reread(&mut self, path: PathBuf, gone: &mut Vec<PathBuf>) {
        if is_gone(&path) {
            let Some(file) = self.files.remove(&path) else { return };
            self.total = self.total.saturating_sub(file.size);
            if !file.reported.is_empty() {
                gone.push(path);
            }
            return;
        }
        let file = self.files.entry(path.clone()).or_default();
        let others = self.total.saturating_sub(file.size);
        let read = read_found(&path, self.limits.after(others));
        // A file that cannot be read keeps its last content in force, and in memory.
        if let Ok((bytes, identity)) = &read {
            file.size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            file.identity = Some(*identity);
            self.total = others.saturating_add(file.size);
        }
        let mut content = parse_text(&path, read.map(|(bytes, _)| bytes), Reading::Objects, DEFAULT_NAMESPACE);
        let mut rejected = std::mem::take(&mut content.errors);
        rejected.extend(duplicates([&content]).iter().map(Duplicate::finding));
        file.pending = rejected.is_empty().then_some(content);
        file.rejected = rejected;
    }

    /// Accepts pending content that no other file contradicts. Returns the warnings of the accepted content.
    ///
    /// It tries all pending content together first, so that an object can move from one file to another.
    fn accept(&mut self) -> Vec<Finding> {
        for file in self.files.values_mut().filter(|file| file.pending.is_some()) {
            file.rejected.clear();
        }
        let mut refused = BTreeMap::new();
        loop {
            let parties = self.parties(&refused);
            if parties.is_empty() {
                break;
            }
            refused.extend(parties);
        }
        let mut warnings = Vec::new();
        for (path, file) in &mut self.files {
            if let Some(findings) = refused.remove(path) {
                file.rejected = findings;
            } else if let Some(content) = file.pending.take() {
                tracing::debug!(file = %path.display(), ignored = ?content.ignored, "manifest read");
                let known = file.applied.take().map(|content| content.warnings).unwrap_or_default();
                warnings.extend(content.warnings.iter().filter(|warning| !known.contains(warning)).cloned());
                file.applied = Some(content);
            }
        }
        warnings
    }

    fn candidates<'s>(&'s self, refused: &BTreeMap<PathBuf, Vec<Finding>>) -> Vec<&'s Content> {
        let candidate = |(path, file): (&PathBuf, &'s FileState)| {
            if refused.contains_key(path) { file.applied.as_ref() } else { file.candidate() }
        };
        self.files.iter().filter_map(candidate).collect()
    }

    /// The files whose pending content has an object that another file also has, with the findings.
    fn parties(&self, refused: &BTreeMap<PathBuf, Vec<Finding>>) -> BTreeMap<PathBuf, Vec<Finding>> {
        let duplicates = duplicates(self.candidates(refused));
        let pending = self.files.iter().filter(|(path, file)| file.pending.is_some() && !refused.contains_key(*path));
        pending
            .map(|(path, _)| (path.clone(), duplicates.iter().filter_map(|d| d.finding_in(path)).collect::<Vec<_>>()))
            .filter(|(_, findings)| !findings.is_empty())
            .collect()
    }

    /// Reports newly rejected files, changed reasons, and files that are no longer rejected.
    fn report_rejections(&mut self, gone: Vec<PathBuf>, events: &mut Vec<Event>) {
        events.extend(gone.into_iter().map(|file| Event::FileRecovered { file }));
        for (path, file) in &mut self.files {
            if file.reported == file.rejected {
                continue;
            }
            file.reported.clone_from(&file.rejected);
            events.push(if file.rejected.is_empty() {
                Event::FileRecovered { file: path.clone() }
            } else {
                let errors = ManifestErrors { findings: file.rejected.clone() };
                Event::FileRejected { file: path.clone(), errors }
            });
        }
    }

    fn put_in_force(&mut self, events: &mut Vec<Event>) {
        let objects = self.files.values().filter_map(|file| file.applied.as_ref()).flat_map(|content| &content.objects);
        let next = assemble(objects.map(|(object, _)| object));
        if self.started {
            let changes = difference(&self.in_force, &next);
            if !changes.is_empty() {
                events.push(Event::Changes(changes));
            }
        } else {
            self.started = true;
            let namespaces = next.namespaces.values().cloned().map(Object::Namespace);
            let pods = next.pods.values().cloned().map(Object::Pod);
            let policies = next.policies.values().cloned().map(Object::Policy);
            events.extend(whole(Kind::Namespace, namespaces.collect()));
            events.extend(whole(Kind::Pod, pods.collect()));
            events.extend(whole(Kind::NetworkPolicy, policies.collect()));
        }
        self.in_force = next;
    }
}

/// A list of all objects of a kind.
fn whole(kind: Kind, mut objects: Vec<Object>) -> impl Iterator<Item = Event> {
    let pages = std::iter::from_fn(move || {
        let rest = objects.split_off(objects.len().min(PAGE));
        let page = std::mem::replace(&mut objects, rest);
        (!page.is_empty()).then_some(ListPart::Page(page))
    });
    std::iter::once(ListPart::Begin(kind)).chain(pages).chain([ListPart::End(kind)]).map(Event::List)
}

/// Whether there is no file at `path`: nothing, or a directory. A file that cannot be read exists.
fn is_gone(path: &Path) -> bool {
    match path.metadata() {
        Ok(metadata) => metadata.is_dir(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The changes from one set of objects to another: deleted pods first, because they free IPs; policies before pods;
/// deleted namespaces last.
fn difference(old: &Assembled, new: &Assembled) -> Vec<Change> {
    let pods_gone = gone(&old.pods, &new.pods).map(Change::PodGone);
    let namespaces = altered(&old.namespaces, &new.namespaces).map(Change::Namespace);
    let policies = altered(&old.policies, &new.policies).map(Change::Policy);
    let pods = altered(&old.pods, &new.pods).map(Change::Pod);
    let policies_gone = gone(&old.policies, &new.policies).map(Change::PolicyGone);
    let namespaces_gone = gone(&old.namespaces, &new.namespaces).map(Change::NamespaceGone);
    pods_gone.chain(namespaces).chain(policies).chain(pods).chain(policies_gone).chain(namespaces_gone).collect()
}

fn altered<K: Ord, V: Clone + PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> impl Iterator<Item = V> {
    new.iter().filter(|(key, value)| old.get(*key) != Some(*value)).map(|(_, value)| value.clone())
}

fn gone<K: Ord + Clone, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> impl Iterator<Item = K> {
    old.keys().filter(|key| !new.contains_key(*key)).cloned()
}
