//! Lists of names in words.

use palisade_policy::input::Pod;

/// How many names a list spells out.
const NAMES: usize = 3;

/// `a`, `a and b`, `a, b and 7 more`.
pub(crate) fn names<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    list(all, NAMES, "and")
}

/// The names of pods.
pub(crate) fn pods(pods: &[&Pod]) -> String {
    names(pods.iter().map(|pod| &pod.key))
}

/// The same with this many names and this word before the last.
pub(crate) fn list<T: ToString>(all: impl IntoIterator<Item = T>, most: usize, and: &str) -> String {
    let mut all: Vec<_> = all.into_iter().map(|name| name.to_string()).collect();
    if all.len() > most + 1 {
        let more = all.split_off(most).len();
        all.push(format!("{more} more"));
    }
    match all.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} {and} {last}", first.join(", ")),
        _ => all.concat(),
    }
}
