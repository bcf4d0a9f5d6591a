//! The evaluator's imports.

/// The evaluator's files, and the words that would make it share a judgement with the engine.
const FILES: [(&str, &str); 3] = [
    ("reference.rs", include_str!("../../reference.rs")),
    ("reference/ends.rs", include_str!("../ends.rs")),
    ("reference/membership.rs", include_str!("../membership.rs")),
];

/// Seen to fail when reference.rs says `use crate::index::…` or `crate::compile::…`, and when it calls `selects`.
#[test]
fn imports_only_input_and_flow() {
    for (file, text) in FILES {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for path in line.split("crate::").skip(1) {
                let is_allowed = path.starts_with("input::") || path.starts_with("flow::");
                assert!(is_allowed, "{file}: only crate::input and crate::flow may be used: {line}");
            }
            for path in line.split("super::").skip(1) {
                assert!(path.starts_with("Reference"), "{file}: {line}");
            }
            for shared in [".selects(", ".is_met_by(", "ipnet::IpNet::", "contains(&IpNet", "palisade_"] {
                assert!(!line.contains(shared), "{file}: the reference has its own {shared}: {line}");
            }
        }
    }
}
