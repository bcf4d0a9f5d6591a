//! A finding of the decoder or of a check, with its position, as every output format prints it.

use palisade_analysis::check::{Code, Edit, Message, Remark};
use palisade_watch::{Finding, Flaw, Survey};
use serde::Serialize;
use serde_json::Value;

/// A finding. The serialized form is an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The file as it was named, `-` for stdin; in a cluster the object, such as `networkpolicies/shop/web`.
    pub(crate) file: String,
    /// The line of the file, from 1; 0 if there are no lines.
    pub(crate) line: usize,
    /// The field in the document, such as `spec.ingress[0].from[1]`; empty for the object as a whole.
    pub(crate) field: String,
    /// How bad it is.
    pub(crate) severity: &'static str,
    /// The kind of finding.
    #[serde(serialize_with = "as_text")]
    pub(crate) code: Code,
    /// What is wrong and what to do.
    #[serde(serialize_with = "as_line")]
    pub(crate) message: Message,
    /// Changes to the object that fix it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remedy: Vec<Operation>,
}

/// A change to an object: an operation of JSON Patch (RFC 6902), or `create` and a new object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Operation {
    op: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    value: Value,
}

impl Operation {
    fn new(edit: Edit) -> Self {
        // The checks write JSON.
        let value = |text: String| serde_json::from_str(&text).unwrap_or_default();
        match edit {
            Edit::Append { list, item } => Self { op: "add", path: pointer(&list) + "/-", value: value(item) },
            Edit::Set { field, value: text } => Self { op: "add", path: pointer(&field), value: value(text) },
            Edit::Remove { field } => Self { op: "remove", path: pointer(&field), value: Value::Null },
            Edit::Create { object } => Self { op: "create", path: String::new(), value: value(object) },
        }
    }
}

/// `/spec/ingress/0`, for `spec.ingress[0]`.
fn pointer(field: &str) -> String {
    let steps = field.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    steps.fold(String::new(), |pointer, step| pointer + "/" + step)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn as_text<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(code)
}

fn as_line<S: serde::Serializer>(message: &Message, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&message.line())
}

impl Report {
    fn new(file: String, line: usize, field: String, code: Code, message: Message) -> Self {
        Self { file, line, field, severity: code.entry().severity.name(), code, message, remedy: Vec::new() }
    }
}

/// All findings of the decoder and the checks, in the order of files and lines.
pub(crate) fn reports(survey: &Survey, remarks: Vec<Remark>) -> Vec<Report> {
    let read = survey.findings.iter().filter_map(|found: &Finding| {
        let message = Message { matter: found.reason.clone(), advice: found.hint.clone() };
        let (file, line) = (found.file.display().to_string(), found.line.unwrap_or(0));
        Some(Report::new(file, line, found.field.clone(), of_flaw(found.flaw)?, message))
    });
    let located = remarks.into_iter().filter_map(|Remark { code, object, field, message, remedy }| {
        let written = survey.written.get(&object)?;
        let (field, line) = written.locate(&field);
        let report = Report::new(written.place.file.display().to_string(), line, field, code, message);
        Some(Report { remedy: remedy.into_iter().map(Operation::new).collect(), ..report })
    });
    let mut all: Vec<_> = read.chain(located).collect();
    all.sort_by(|a, b| (&a.file, a.line, a.code, &a.field).cmp(&(&b.file, b.line, b.code, &b.field)));
    all
}

/// The code of a mistake found while reading; `None` if it is an error of the command, not a finding.
fn of_flaw(flaw: Flaw) -> Option<Code> {
    Some(match flaw {
        Flaw::Unreadable | Flaw::NothingThere => return None,
        Flaw::Malformed => Code::Malformed,
        Flaw::WrongKind => Code::WrongKind,
        Flaw::UnknownField => Code::UnknownField,
        Flaw::MisplacedField => Code::MisplacedField,
        Flaw::WrongType => Code::WrongType,
        Flaw::MissingField => Code::MissingField,
        Flaw::InvalidValue => Code::InvalidValue,
        Flaw::InvalidBlock => Code::InvalidCidr,
        Flaw::LegacyBlock => Code::LegacyCidr,
        Flaw::ExceptOutside => Code::ExceptOutsideCidr,
        Flaw::WrittenTwice => Code::WrittenTwice,
        Flaw::NullValue => Code::NullValue,
        Flaw::MissingSpec => Code::MissingSpec,
        Flaw::StatusField => Code::RemovedField,
        Flaw::PodAddress => Code::PodAddress,
        Flaw::LegacyVersion => Code::LegacyApiVersion,
        Flaw::LegacyAnnotation => Code::LegacyAnnotation,
    })
}
