//! Reads files, within limits.
//!
//! Anyone who may write a manifest may also create a file that never ends or never begins: a named pipe, a device, many
//! gigabytes. Such a file must not delay the others.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

const MIB: u64 = 1 << 20;

/// How much to read at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one file.
    pub(crate) file: u64,
    /// Bytes of all files.
    pub(crate) total: u64,
    /// Files of a directory.
    pub(crate) files: usize,
}

impl Limits {
    /// For a watched directory, whose content stays in memory.
    pub(crate) const WATCHED: Self = Self { file: 16 * MIB, total: 256 * MIB, files: 10_000 };

    /// For files that a user names: the dump of a large cluster is one file.
    pub(crate) const NAMED: Self = Self { file: 256 * MIB, ..Self::WATCHED };

    /// What remains of these limits after `read` bytes.
    pub(crate) fn after(self, read: u64) -> Self {
        Self { total: self.total.saturating_sub(read), ..self }
    }
}

/// Distinguishes versions of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change, also of owner and mode.
    changed: (i64, i64),
}

impl Identity {
    /// The identity of the file at a path now; follows symlinks.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a regular file that was found in a directory. Rejects anything else without waiting for it.
pub(crate) fn read_found(path: &Path, limits: Limits) -> io::Result<(Vec<u8>, Identity)> {
    // Opening a device may have side effects, so check first; and again after opening, because the path may lead
    // elsewhere by then.
    must_be_regular(&fs::metadata(path)?)?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    must_be_regular(&metadata)?;
    if metadata.len() > limits.file.min(limits.total) {
        return Err(too_large(metadata.len(), limits));
    }
    Ok((read_bounded(file, limits)?, Identity::of(&metadata)))
}

/// Reads a file that a user named. It may be a pipe, such as `<(helm template …)`.
pub(super) fn read_named(path: &Path, limits: Limits) -> io::Result<Vec<u8>> {
    read_bounded(File::open(path)?, limits)
}

/// Reads to the end. More bytes than the limits are an error.
pub(super) fn read_bounded(from: impl Read, limits: Limits) -> io::Result<Vec<u8>> {
    let most = limits.file.min(limits.total);
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length > most { Err(too_large(length, limits)) } else { Ok(bytes) }
}

fn must_be_regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let name = if kind.is_file() {
        return Ok(());
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "a device"
    };
    Err(io::Error::other(format!("it is {name}, not a regular file")))
}

fn too_large(length: u64, limits: Limits) -> io::Error {
    let message = if length > limits.file {
        format!("it is larger than {}; split it", Size(limits.file))
    } else {
        format!("all manifests together would be larger than {}", Size(Limits::WATCHED.total))
    };
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

/// A number of bytes, in words.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 / MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_exact_to_the_byte() {
        let limits = Limits { file: 10, total: 25, files: 1 };
        let read = |length: usize, limits| read_bounded(&vec![b'x'; length][..], limits).map(|bytes| bytes.len());
        assert_eq!(read(10, limits).unwrap(), 10);
        assert!(read(11, limits).unwrap_err().to_string().contains("split it"));
        assert_eq!(read(5, limits.after(20)).unwrap(), 5);
        assert!(read(6, limits.after(20)).unwrap_err().to_string().contains("all manifests together"));
        // An endless file is cut off at the limit.
        assert!(read_bounded(io::repeat(b'x'), limits).unwrap_err().to_string().contains("split it"));
    }
}
