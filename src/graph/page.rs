//! The page: one file that needs no network.

use super::svg::STYLE;

const PAGE: &str = include_str!("page/page.html");
/// The colours and shapes of pages.
pub(crate) const CSS: &str = include_str!("page/page.css");
const JUDGE: &str = include_str!("page/judge.js");
const MAP: &str = include_str!("page/map.js");
const SCRIPT: &str = include_str!("page/page.js");

/// The page of a graph: its picture and its tables.
pub(super) fn graph(picture: &str, data: &str) -> String {
    // In a script, only `<` can end the data early.
    let data = data.replace('<', "\\u003c");
    let script = format!("{JUDGE}\n{MAP}\n{SCRIPT}");
    let parts = [
        ("/*PICTURE_CSS*/", STYLE),
        ("/*PAGE_CSS*/", CSS),
        ("/*PAGE_JS*/", script.as_str()),
        ("<!--PICTURE-->", picture),
        ("/*DATA*/", data.as_str()),
    ];
    filled(PAGE, &parts)
}

/// A text with each placeholder replaced once; what replaces one is not searched for others.
pub(crate) fn filled(text: &str, parts: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    loop {
        let found = parts.iter().filter_map(|(name, part)| Some((rest.find(name)?, *name, *part)));
        let Some((at, name, part)) = found.min_by_key(|(at, ..)| *at) else {
            filled.push_str(rest);
            return filled;
        };
        let (before, after) = rest.split_at(at);
        filled.push_str(before);
        filled.push_str(part);
        rest = after.strip_prefix(name).unwrap_or(after);
    }
}
