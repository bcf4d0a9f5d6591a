//! Which manifests to read.

use std::path::PathBuf;

/// Paths of manifests, and how to read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Files, directories, or `-` for standard input.
    pub paths: Vec<PathBuf>,
    /// Also read subdirectories, except hidden ones and symlinks.
    pub recursive: bool,
    /// The namespace of objects that name none; by default `default`.
    pub namespace: Option<String>,
    /// An object of a later path replaces the one with its name of an earlier path, as if each were applied in turn;
    /// otherwise that is a mistake.
    pub replace: bool,
}

impl From<&[PathBuf]> for Selection {
    fn from(paths: &[PathBuf]) -> Self {
        Self { paths: paths.to_vec(), ..Self::default() }
    }
}

impl<const N: usize> From<&[PathBuf; N]> for Selection {
    fn from(paths: &[PathBuf; N]) -> Self {
        Self::from(paths.as_slice())
    }
}
