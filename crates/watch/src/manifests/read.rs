//! Reads files, directories and standard input.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::document::{Content, Reading};
use super::file::{Limits, read_bounded, read_found, read_named};
use super::objects::{Duplicate, Objects, duplicates, forget_replaced};
use super::selection::Selection;
use super::workloads::add_workload_pods;
use crate::decode::DEFAULT_NAMESPACE;
use crate::finding::{Finding, Flaw, ManifestErrors};

/// Reads the manifests at `paths`: files, directories, or `-` for standard input.
///
/// In a directory, it reads the files whose names end in `.yaml`, `.yml` or `.json`, except hidden ones and
/// subdirectories, like `kubectl -f` without `-R`. A file named twice is read once.
///
/// A directory may have 10,000 regular files; together, at most 256 MiB are read.
///
/// # Errors
/// Every mistake in every file, in order: text that is not YAML, objects that an API server would reject or read
/// differently, an object written twice, and files that cannot be read.
pub fn read_manifests(selection: impl Into<Selection>) -> Result<Objects, ManifestErrors> {
    read(&selection.into(), Reading::Objects)
}

/// Reads manifests as [`read_manifests`] does, and also Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob
/// and ReplicationController, each as one pod without an IP. The pod has the workload's namespace and name, and the
/// labels, ports and `hostNetwork` of its template. If several objects of a namespace have the same name, a Pod keeps
/// it, or else the first kind in this list; the others' pods are named `name.kind`, such as `web.cronjob`.
///
/// For commands that check a repository; the agent enforces only pods.
///
/// # Errors
/// As [`read_manifests`].
pub fn read_manifests_and_workloads(selection: impl Into<Selection>) -> Result<Objects, ManifestErrors> {
    read(&selection.into(), Reading::Workloads)
}

fn read(selection: &Selection, reading: Reading) -> Result<Objects, ManifestErrors> {
    let mut contents = contents(selection, reading);
    let mut findings: Vec<_> = contents.iter().flat_map(|content| content.errors.iter().cloned()).collect();
    findings.extend(add_workload_pods(&mut contents));
    findings.extend(duplicates(&contents).iter().map(Duplicate::finding));
    if findings.is_empty() { Ok(Objects::of(contents)) } else { Err(ManifestErrors { findings }) }
}

/// The content of each file.
pub(super) fn contents(selection: &Selection, reading: Reading) -> Vec<Content> {
    let namespace = selection.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let mut reader = Reader { reading, namespace, limits: Limits::NAMED, contents: Vec::new(), origin: 0 };
    let mut seen = BTreeSet::new();
    let mut is_new = |file: &Path| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()));
    for (origin, path) in selection.paths.iter().enumerate() {
        reader.origin = origin;
        if path.as_os_str() == "-" {
            if is_new(path) {
                reader.take(path, |limits| read_bounded(io::stdin().lock(), limits));
            }
        } else if path.is_dir() {
            match manifests_under(path, selection.recursive) {
                Ok(files) if files.is_empty() => reader.warn(path, "holds no .yaml, .yml or .json files"),
                Ok(files) => files.iter().filter(|file| is_new(file)).for_each(|file| {
                    reader.take(file, |limits| read_found(file, limits).map(|(bytes, _)| bytes));
                }),
                Err(error) => reader.contents.push(unreadable(path, &error)),
            }
        } else if is_new(path) {
            reader.take(path, |limits| read_named(path, limits));
        }
    }
    if selection.replace {
        forget_replaced(&mut reader.contents);
    }
    reader.contents
}

/// Reads files one by one.
struct Reader<'s> {
    reading: Reading,
    namespace: &'s str,
    /// What remains of the limits.
    limits: Limits,
    contents: Vec<Content>,
    /// The position of the path that is being read.
    origin: usize,
}

impl Reader<'_> {
    fn take(&mut self, file: &Path, read: impl FnOnce(Limits) -> io::Result<Vec<u8>>) {
        let bytes = read(self.limits);
        let length = bytes.as_ref().map_or(0, Vec::len);
        self.limits = self.limits.after(u64::try_from(length).unwrap_or(u64::MAX));
        let content = parse_text(file, bytes, self.reading, self.namespace);
        self.contents.push(Content { origin: self.origin, ..content });
    }

    fn warn(&mut self, path: &Path, reason: &str) {
        let mut content = Content::default();
        content.warnings.push(Finding::of_file(path, Flaw::NothingThere, reason));
        self.contents.push(content);
    }
}

/// The manifests in a directory, and if `recursive` in its subdirectories, by name.
fn manifests_under(directory: &Path, recursive: bool) -> io::Result<Vec<PathBuf>> {
    const MOST: usize = Limits::NAMED.files;
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        files.extend(manifests_in(&directory, MOST.saturating_sub(files.len()))?);
        if !recursive {
            break;
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            // A symlink may lead to a parent; kubectl does not follow symlinks either.
            if entry.file_type()?.is_dir() && !is_hidden {
                directories.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The manifests directly in a directory, by name. More than `most` are an error.
pub(crate) fn manifests_in(directory: &Path, most: usize) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.path();
        if !is_manifest(&file) || file.is_dir() {
            continue;
        }
        if files.len() >= most {
            return Err(io::Error::other(format!("it holds more than {most} manifests")));
        }
        files.push(file);
    }
    files.sort();
    Ok(files)
}

/// Whether a file in a directory is a manifest, by its name.
pub(crate) fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = file.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Parses the bytes of a file. Objects without a namespace are in `namespace`.
pub(crate) fn parse_text(file: &Path, bytes: io::Result<Vec<u8>>, reading: Reading, namespace: &str) -> Content {
    match bytes.map(String::from_utf8) {
        Ok(Ok(text)) => Content::parse(file, &text, reading, namespace),
        Ok(Err(error)) => {
            let line =
                1 + error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count();
            let mut content = Content::default();
            let mut finding = Finding::of_file(file, Flaw::Malformed, "is not UTF-8 text");
            finding.line = Some(line);
            content.errors.push(finding);
            content
        }
        Err(error) => unreadable(file, &error),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Content {
    let mut content = Content::default();
    content.errors.push(Finding::of_file(path, Flaw::Unreadable, format!("cannot be read: {error}")));
    content
}
