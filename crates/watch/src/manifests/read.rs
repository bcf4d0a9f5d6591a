//! Files to text.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::document::{Content, Reading};
use super::objects::{Duplicate, Objects, duplicates};
use super::workloads::become_pods;
use crate::finding::{Finding, Flaw, ManifestErrors};

/// Reads the manifests at `paths`: files, directories, or `-` for standard input.
///
/// Of a directory, the files in it whose names end in `.yaml`, `.yml` or `.json` are read; hidden ones and
/// subdirectories are not, as with `kubectl -f` without `-R`. A file named twice is read once.
///
/// # Errors
/// Every mistake in every file, in order: text that is not YAML, objects that an API server would refuse or read
/// otherwise than written, an object written twice, and files that cannot be read.
pub fn read_manifests(paths: &[PathBuf]) -> Result<Objects, ManifestErrors> {
    read(paths, Reading::Objects)
}

/// Reads manifests as [`read_manifests`] does, and besides Deployment, StatefulSet, DaemonSet, ReplicaSet, Job and CronJob,
/// each as one pod without address: its namespace and name, the labels, ports and `hostNetwork` of its template. If
/// several objects of a namespace have the same name, a Pod keeps it; else the first kind of this list does; the others'
/// pods are named `name.kind`, as `web.cronjob`.
///
/// For commands that judge what a repository says. What is enforced is only ever a pod.
///
/// # Errors
/// As [`read_manifests`].
pub fn read_manifests_and_workloads(paths: &[PathBuf]) -> Result<Objects, ManifestErrors> {
    read(paths, Reading::Workloads)
}

fn read(paths: &[PathBuf], reading: Reading) -> Result<Objects, ManifestErrors> {
    let mut contents = contents(paths, reading);
    let mut findings: Vec<_> = contents.iter().flat_map(|content| content.errors.iter().cloned()).collect();
    findings.extend(become_pods(&mut contents));
    findings.extend(duplicates(&contents).iter().map(Duplicate::finding));
    if findings.is_empty() { Ok(Objects::of(contents)) } else { Err(ManifestErrors { findings }) }
}

/// What each file holds.
pub(super) fn contents(paths: &[PathBuf], reading: Reading) -> Vec<Content> {
    let mut contents = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == "-" {
            if seen.insert(path.clone()) {
                contents.push(parse_text(path, read_stdin(), reading));
            }
            continue;
        }
        match manifest_files(path) {
            Ok(files) => {
                if files.is_empty() {
                    let mut content = Content::default();
                    content.warnings.push(Finding::of_file(
                        path,
                        Flaw::NothingThere,
                        "holds no .yaml, .yml or .json files",
                    ));
                    contents.push(content);
                }
                for file in files {
                    let real = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
                    if seen.insert(real) {
                        contents.push(parse_file(&file, reading));
                    }
                }
            }
            Err(error) => contents.push(unreadable(path, &error)),
        }
    }
    contents
}

/// The files that `path` stands for: itself, or the manifests directly in it, by name.
pub(crate) fn manifest_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if is_manifest(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file in a directory is taken for a manifest, by its name.
pub(crate) fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = file.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Reads and parses a file. One that cannot be read has an error.
pub(crate) fn parse_file(file: &Path, reading: Reading) -> Content {
    parse_text(file, fs::read(file), reading)
}

/// Parses the bytes of a file.
pub(crate) fn parse_text(file: &Path, bytes: io::Result<Vec<u8>>, reading: Reading) -> Content {
    match bytes.map(String::from_utf8) {
        Ok(Ok(text)) => Content::parse(file, &text, reading),
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

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}
