//! A finding, as every output format prints it.

use palisade_watch::{ObjectName, Survey};
use serde::{Serialize, Serializer};

use super::code::{Code, Severity, of_flaw};

/// A finding. The serialized form is an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The file as it was named, `-` for stdin; in a cluster the object, as `networkpolicies/shop/web`.
    pub(crate) file: String,
    /// The line of the file, from 1; 0 if there are no lines.
    pub(crate) line: usize,
    /// The field in the document, as `spec.ingress[0].from[1]`; empty for the object as a whole.
    pub(crate) field: String,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// The kind of finding.
    #[serde(serialize_with = "name")]
    pub(crate) code: Code,
    /// What is wrong and what to do.
    pub(crate) message: Message,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn name<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.entry().name)
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What is the matter.
    pub(crate) matter: String,
    /// What to do.
    pub(crate) advice: Option<String>,
}

impl Message {
    /// Both in one line.
    pub(crate) fn line(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}; {advice}", self.matter),
            None => self.matter.clone(),
        }
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.line())
    }
}

/// The result of a check, before its position is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// The kind of finding.
    pub(crate) code: Code,
    /// The object that it is about.
    pub(crate) object: ObjectName,
    /// The field of the object; empty for the object as a whole.
    pub(crate) field: String,
    /// What is wrong and what to do.
    pub(crate) message: Message,
}

impl Remark {
    /// A remark on a field of an object.
    pub(crate) fn new(
        code: Code,
        object: ObjectName,
        field: impl Into<String>,
        matter: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let message = Message { matter: matter.into(), advice: Some(advice.into()) };
        Self { code, object, field: field.into(), message }
    }
}

/// All findings of reading and of the checks, in the order of files and lines.
pub(crate) fn findings(survey: &Survey, remarks: Vec<Remark>) -> Vec<Finding> {
    let read = survey.findings.iter().filter_map(|found| {
        let code = of_flaw(found.flaw)?;
        Some(Finding {
            file: found.file.display().to_string(),
            line: found.line.unwrap_or(0),
            field: found.field.clone(),
            severity: code.entry().severity,
            code,
            message: Message { matter: found.reason.clone(), advice: found.hint.clone() },
        })
    });
    let located = remarks.into_iter().filter_map(|Remark { code, object, field, message }| {
        let written = survey.written.get(&object)?;
        let (field, line) = written.locate(&field);
        let file = written.place.file.display().to_string();
        Some(Finding { file, line, field, severity: code.entry().severity, code, message })
    });
    let mut all: Vec<_> = read.chain(located).collect();
    all.sort_by(|a, b| {
        (&a.file, a.line, a.severity, a.code, &a.field).cmp(&(&b.file, b.line, b.severity, b.code, &b.field))
    });
    all
}
