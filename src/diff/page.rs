//! A difference as a page: its picture and its tables in one file, without a script.

use std::fmt::Write as _;

use palisade_analysis::diff::{Change, Diff, Single};

use super::picture::picture;
use super::print::{closed, isolation, opened};
use crate::graph::page::{CSS, filled};
use crate::graph::svg::{STYLE, escaped, inline};

const PAGE: &str = include_str!("page.html");

/// How many rows a table has.
const ROWS: usize = 5_000;

const LEGEND: &str = r#"<ul class="legend" aria-label="Legend">
<li><svg class="key added" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true"><path d="M1 6H26M26 2L33 6L26 10Z"/></svg> + opened</li>
<li><svg class="key removed" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true"><path d="M1 6H26M26 2L33 6L26 10Z"/></svg> − closed (dashed)</li>
</ul>"#;

/// The page of a difference, and what was compared.
pub(super) fn page(diff: &Diff, source: &str) -> String {
    let (opened, closed) = (opened(diff), closed(diff));
    let mut counts = format!("{} opened, {} closed.", opened.len(), closed.len());
    if diff.is_empty() {
        "No flow changes.".clone_into(&mut counts);
    }
    let mut body = String::new();
    if !diff.changes.is_empty() {
        // Writing to a String cannot fail.
        _ = writeln!(
            body,
            "<section><h2>Picture</h2>\n<div id=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"Picture, scrolls\">\n\
             {}</div>\n{LEGEND}</section>",
            inline(&picture(diff)),
        );
    }
    for (title, changes) in [("Opened", opened), ("Closed", closed)] {
        table(&mut body, title, &changes);
    }
    for (title, workloads) in [("New workloads", &diff.added), ("Workloads gone", &diff.removed)] {
        list(&mut body, title, workloads);
    }
    let source = escaped(source);
    let parts = [
        ("/*PICTURE_CSS*/", STYLE),
        ("/*PAGE_CSS*/", CSS),
        ("<!--SOURCE-->", source.as_str()),
        ("<!--COUNTS-->", counts.as_str()),
        ("<!--BODY-->", body.as_str()),
    ];
    filled(PAGE, &parts)
}

fn table(body: &mut String, title: &str, changes: &[(&Change, String)]) {
    if changes.is_empty() {
        return;
    }
    _ = writeln!(
        body,
        "<section><h2>{title}</h2>\n<table class=\"changes\"><thead><tr><th>from</th><th>to</th><th>ports</th></tr></thead>\
         <tbody>"
    );
    for (change, ports) in changes.iter().take(ROWS) {
        let (from, to) = (escaped(&change.from.to_string()), escaped(&change.to.to_string()));
        _ = writeln!(body, "<tr><td>{from}</td><td>{to}</td><td>{}</td></tr>", escaped(ports));
    }
    _ = writeln!(body, "</tbody></table>{}</section>", more(changes.len()));
}

fn list(body: &mut String, title: &str, workloads: &[Single]) {
    if workloads.is_empty() {
        return;
    }
    _ = writeln!(body, "<section><h2>{title}</h2>\n<ul class=\"singles\">");
    for single in workloads.iter().take(ROWS) {
        _ = writeln!(body, "<li><span class=\"mono\">{}</span>: {}</li>", escaped(&single.workload), isolation(single));
    }
    _ = writeln!(body, "</ul>{}</section>", more(workloads.len()));
}

/// What a table leaves out.
fn more(count: usize) -> String {
    match count.saturating_sub(ROWS) {
        0 => String::new(),
        rest => format!(
            "<p class=\"hint\">{rest} more: <code>palisade diff</code> without <code>-o html</code> lists them all.</p>"
        ),
    }
}
