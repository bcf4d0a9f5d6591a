//! Failures between the agent and an API server.

use std::error::Error;
use std::io;
use std::time::Duration;

use kube::core::Status;
use palisade_policy::input::Kind;

use crate::event::Failure;

/// The cause of a failure.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server no longer has the version, or not yet, or cannot read it.
    Expired(String),
    /// The server refuses, for a reason that may be temporary or not.
    Refused(Box<Status>),
    /// The server is overloaded, or not ready.
    Busy(String),
    /// There is no connection, or it broke.
    Broken(String),
    /// No answer arrived in time.
    Late(Duration),
    /// A watch has been silent for too long.
    Silent(Duration),
    /// A watch ended at once, though in good order.
    Brief(Duration),
    /// The answer cannot be read.
    Malformed(String),
}

impl Trouble {
    /// Whether only a new list can help.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Expired(_) | Self::Malformed(_))
    }

    /// Whether the server answered, and may give the same answer forever.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The failure as the receiver gets it. `verb` is the attempt: `list` or `watch`.
    pub(super) fn failure(&self, kind: Kind, verb: &'static str) -> Failure {
        let resource = kind.resource();
        let (reason, message) = match self {
            Self::Expired(text) => ("expired", format!("the server does not have this version: {text}")),
            Self::Refused(status) if status.code == 403 => {
                (verb, format!("{}; the ClusterRole must allow list and watch of {resource}", words(status)))
            }
            Self::Refused(status) => (verb, words(status)),
            Self::Busy(text) | Self::Broken(text) => (verb, text.clone()),
            Self::Late(time) => (verb, format!("no answer within {time:?}")),
            Self::Silent(time) => (verb, format!("the server sent nothing for {time:?}")),
            Self::Brief(time) => (verb, format!("the server ended the watch after {time:?}")),
            Self::Malformed(text) => (verb, format!("the answer cannot be read: {text}")),
        };
        Failure { resource: Some(kind), reason, message }
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => status.into(),
            other => Self::Broken(with_causes(&other)),
        }
    }
}

impl From<Box<Status>> for Trouble {
    fn from(status: Box<Status>) -> Self {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let is_ahead = causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
            || status.message.contains("Too large resource version");
        match status.code {
            410 => Self::Expired(words(&status)),
            _ if is_ahead || status.reason == "Expired" => Self::Expired(words(&status)),
            // The rest of the request is valid, so the version, which the server made, is at fault.
            400 | 422 => Self::Expired(words(&status)),
            429 | 503 => Self::Busy(words(&status)),
            _ => Self::Refused(status),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(with_causes(&error))
    }
}

fn words(status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("status {}", status.code),
        ("", reason) => format!("{reason} ({})", status.code),
        (message, _) => format!("{message} ({})", status.code),
    }
}

/// Transport errors have the details only in their causes.
fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let text = deeper.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = deeper.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> Trouble {
        Trouble::from(Box::new(serde_json::from_str::<Status>(json).unwrap()))
    }

    #[test]
    fn failures_that_need_a_new_list_are_recognised() {
        let too_large = r#"{"code": 504, "reason": "Timeout", "message": "Timeout: Too large resource version: 9, current: 5",
            "details": {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}}"#;
        for json in [
            too_large,
            r#"{"code": 410, "reason": "Expired", "message": "too old resource version: 1 (5)"}"#,
            r#"{"code": 410}"#,
            r#"{"code": 400, "reason": "BadRequest", "message": "Invalid value: \"x\""}"#,
        ] {
            assert!(status(json).is_final(), "{json}");
            assert_eq!(status(json).failure(Kind::Pod, "watch").reason, "expired");
        }
        for (json, refusal) in [
            (r#"{"code": 504, "reason": "Timeout"}"#, true),
            (r#"{"code": 403, "reason": "Forbidden", "message": "no"}"#, true),
            (r#"{"code": 500}"#, true),
            (r#"{"code": 429, "reason": "TooManyRequests"}"#, false),
            (r#"{"code": 503}"#, false),
        ] {
            let trouble = status(json);
            assert!(!trouble.is_final() && trouble.is_refusal() == refusal, "{json}");
            assert_eq!(trouble.failure(Kind::Pod, "watch").reason, "watch");
        }
        let forbidden = status(r#"{"code": 403, "message": "no"}"#).failure(Kind::Pod, "list");
        assert_eq!(forbidden.message, "no (403); the ClusterRole must allow list and watch of pods");
    }
}
