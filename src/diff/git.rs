//! Manifests as they were in a revision.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::output::Failure;

/// How many files of a revision are read.
const FILES: usize = 10_000;

/// A copy of the manifests of a revision; dropping it removes it.
pub(super) struct Earlier {
    directory: PathBuf,
    /// Where in the copy the path is that was asked for.
    pub(super) path: PathBuf,
}

impl Drop for Earlier {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// Copies what a revision has at a path of the work tree.
pub(super) fn checkout(revision: &str, path: &Path) -> Result<Earlier, Failure> {
    if revision.starts_with('-') {
        return Err(Failure::usage(format!("{revision:?} is not a revision")));
    }
    let place = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let unwritten = |error: std::io::Error| Failure::caused("cannot copy the files of the revision", &error);
    let directory = std::env::temp_dir().join(format!("palisade-diff-{}", std::process::id()));
    fs::create_dir(&directory).map_err(unwritten)?;
    let mut earlier = Earlier { path: directory.clone(), directory };
    // Relative to the directory in which git runs.
    let name = if path.is_dir() { Path::new(".") } else { path.file_name().map_or(path, Path::new) };
    let listed = git(place, &["ls-tree", "-r", "-z", "--name-only", revision, "--"], Some(name))?;
    let files: Vec<_> = listed.split(|byte| *byte == 0).filter(|file| !file.is_empty()).collect();
    if files.len() > FILES {
        return Err(Failure::new(format!("{revision} has more than {FILES} files there")));
    }
    for file in files {
        let file = String::from_utf8_lossy(file);
        let is_manifest =
            ["yaml", "yml", "json"].iter().any(|end| Path::new(&*file).extension().is_some_and(|own| own == *end));
        if !is_manifest {
            continue;
        }
        let text = git(place, &["show", &format!("{revision}:./{file}")], None)?;
        let copy = earlier.directory.join(&*file);
        fs::create_dir_all(copy.parent().unwrap_or(&earlier.directory)).map_err(unwritten)?;
        fs::write(copy, text).map_err(unwritten)?;
    }
    if !path.is_dir() {
        earlier.path = earlier.directory.join(name);
    }
    Ok(earlier)
}

fn git(place: &Path, arguments: &[&str], path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let ran = Command::new("git").arg("-C").arg(place).args(arguments).args(path).output();
    let Output { status, stdout, stderr } =
        ran.map_err(|error| Failure::caused("cannot run git", &error).hint("--git needs git on the path"))?;
    if status.success() {
        return Ok(stdout);
    }
    Err(Failure::new(format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&stderr).trim())))
}
