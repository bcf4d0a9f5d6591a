//! What is wrong with a manifest, and where.

use std::fmt;
use std::path::PathBuf;

pub use palisade_policy::input::ObjectName;

/// The kind of mistake that a finding is. `palisade check` has a code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// A file or directory cannot be read.
    Unreadable,
    /// A directory has no manifests.
    NothingThere,
    /// Text that is not YAML, or a document that is not an object.
    Malformed,
    /// `apiVersion` or `kind` is missing, or is a misspelling of one that is read here.
    WrongKind,
    /// A field that does not exist in its place.
    UnknownField,
    /// A field that belongs elsewhere.
    MisplacedField,
    /// A value of the wrong YAML type.
    WrongType,
    /// A required field is missing.
    MissingField,
    /// A value that the API server rejects.
    InvalidValue,
    /// Text that is not an address block.
    InvalidBlock,
    /// An address block that Kubernetes 1.36 and later refuse in a new object.
    LegacyBlock,
    /// An `except` that is not inside its `cidr`.
    ExceptOutside,
    /// An object that is written twice.
    WrittenTwice,
    /// A null that does not mean what people expect.
    NullValue,
    /// A policy without `spec`.
    MissingSpec,
    /// A policy with `status`, which the API no longer has.
    StatusField,
    /// An IP in a pod's status that no pod can have.
    PodAddress,
    /// An `apiVersion` that API servers no longer serve.
    LegacyVersion,
    /// The annotation that isolated a namespace before Kubernetes 1.7.
    LegacyAnnotation,
}

impl Flaw {
    /// Whether API servers have stored such objects, and they mean what they say: `palisade check` names the flaw; the
    /// agent, `render` and `trace` do not.
    pub fn is_advice(self) -> bool {
        matches!(self, Self::LegacyBlock | Self::StatusField)
    }
}

/// The position of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file; `-` is standard input.
    pub file: PathBuf,
    /// The document in the file, from 1.
    pub document: usize,
    /// The line in the file, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    /// `policies.yaml:12: document 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: document {}", self.file.display(), self.line, self.document)
    }
}

/// A mistake in a manifest, or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file; `-` is standard input.
    pub file: PathBuf,
    /// The document in the file, from 1; `None` if the file could not be read at all.
    pub document: Option<usize>,
    /// The line in the file, from 1; `None` if the file could not be read at all.
    pub line: Option<usize>,
    /// The object, if its name could be read.
    pub object: Option<ObjectName>,
    /// The kind of mistake.
    pub flaw: Flaw,
    /// The field, such as `spec.ingress[0].from[1].ipBlock.cidr`; empty for the document as a whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding about a file as a whole.
    pub(crate) fn of_file(file: impl Into<PathBuf>, flaw: Flaw, reason: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            document: None,
            line: None,
            object: None,
            flaw,
            field: String::new(),
            reason: reason.into(),
            hint: None,
        }
    }
}

impl fmt::Display for Finding {
    /// `policies.yaml:12: document 2: spec.policyTypes[0]: …`, and the hint on the next line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(document) = self.document {
            write!(f, " document {document}:")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All mistakes in a set of manifests; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestErrors {
    /// The mistakes, in the order of files and lines; objects written twice come last.
    pub findings: Vec<Finding>,
}

impl fmt::Display for ManifestErrors {
    /// One finding a line, each hint on the next line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, finding) in self.findings.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(finding, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestErrors {}
