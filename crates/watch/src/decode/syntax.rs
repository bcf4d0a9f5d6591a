//! The syntax of names, labels and ports, as in `k8s.io/apimachinery/pkg/util/validation` (1.36).
//!
//! Each function returns what is wrong, or nothing.

pub(crate) use palisade_policy::nearest;

/// A DNS label: namespaces.
pub(super) fn dns_label(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!is_dns_label(text)).then(|| {
        "must consist of lower case letters, digits or '-', and start and end with a letter or digit".to_owned()
    })
}

/// A DNS subdomain: names of pods and policies.
pub(super) fn dns_subdomain(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some("must be no more than 253 characters".to_owned());
    }
    (!text.split('.').all(is_dns_label)).then(|| {
        "must consist of lower case letters, digits, '-' or '.', and start and end with a letter or digit".to_owned()
    })
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    inner(first) && inner(last) && text.bytes().all(|byte| inner(byte) || byte == b'-')
}

/// A label key: a name with an optional DNS subdomain and '/' before it.
pub(super) fn label_key(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(prefix) = prefix {
        if name.contains('/') {
            return Some("must have at most one '/', after a DNS subdomain (example.com/name)".to_owned());
        }
        if let Some(reason) = dns_subdomain(prefix) {
            return Some(format!("the part before '/' {reason}"));
        }
    }
    if name.is_empty() {
        return Some(
            if prefix.is_some() { "the part after '/' must not be empty" } else { "must not be empty" }.to_owned(),
        );
    }
    if name.len() > 63 {
        return Some("the name part must be no more than 63 characters".to_owned());
    }
    (!is_label_word(name)).then(|| LABEL_WORD.to_owned())
}

/// A label value.
pub(super) fn label_value(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!text.is_empty() && !is_label_word(text)).then(|| LABEL_WORD.to_owned())
}

const LABEL_WORD: &str = "must consist of letters, digits, '-', '_' or '.', and start and end with a letter or digit";

fn is_label_word(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A port name (an IANA service name).
pub(super) fn port_name(text: &str) -> Option<&'static str> {
    if text.len() > 15 {
        Some("must be no more than 15 characters")
    } else if !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        Some("must consist of lower case letters, digits and '-'")
    } else if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Some("must contain at least one letter")
    } else if text.contains("--") {
        Some("must not contain '--'")
    } else if text.starts_with('-') || text.ends_with('-') {
        Some("must not begin or end with '-'")
    } else {
        None
    }
}

/// A port number.
pub(super) fn port_number(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "web-1", "a.b", "1"] {
            assert_eq!(dns_subdomain(good), None, "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", ".a"] {
            assert!(dns_subdomain(bad).is_some(), "{bad}");
        }
        assert!(dns_label("a.b").is_some());
        assert!(dns_label(&"a".repeat(64)).is_some());
        assert!(dns_subdomain(&format!("{}.b", "a".repeat(100))).is_none());
        assert!(dns_subdomain(&"a".repeat(254)).is_some());
    }

    #[test]
    fn labels() {
        for good in ["app", "app.kubernetes.io/name", "A_b.c-1"] {
            assert_eq!(label_key(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "A.io/x", "-a", "a b", "é"] {
            assert!(label_key(bad).is_some(), "{bad}");
        }
        assert_eq!(label_value(""), None);
        assert_eq!(label_value("1.0_x"), None);
        for bad in ["-", "a b", "a/b", "é"] {
            assert!(label_value(bad).is_some(), "{bad}");
        }
        assert!(label_value(&"a".repeat(64)).is_some());
    }

    #[test]
    fn port_names() {
        for good in ["http", "serve-80-tcp", "a", "8a", "sixteen-letters"] {
            assert_eq!(port_name(good), None, "{good}");
        }
        for bad in ["80", "HTTP", "a--b", "-a", "a-", "sixteen-letters1", "a_b", ""] {
            assert!(port_name(bad).is_some(), "{bad}");
        }
    }
}
