//! Compares chains, sets and maps that a page quotes with a ruleset.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use palisade_testkit::difference::of_texts;

/// An object of a listing: its lines between the braces, without indentation and without the values of counters.
type Lines = Vec<String>;

/// A quotation in a page.
struct Quoted {
    /// `chain forward`, `set pods/…`
    name: String,
    /// The command that printed it, if the page names it.
    command: String,
    lines: Lines,
    /// Whether the page omits some of its lines.
    in_part: bool,
}

/// The difference between a page's quotations of a ruleset and the ruleset. None if they agree. It compares the
/// quotations whose command satisfies `commands`; the command is empty for a listing without one.
pub(crate) fn difference(page: &str, text: &str, commands: fn(&str) -> bool) -> Option<String> {
    let there = objects(text);
    let content = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let quoted: Vec<_> = quotations(&content).into_iter().filter(|quotation| commands(&quotation.command)).collect();
    assert!(!quoted.is_empty(), "{page} quotes nothing of this ruleset");
    let mut differences = Vec::new();
    for quotation in &quoted {
        let Some(lines) = there.get(&quotation.name) else {
            differences.push(format!("{page} quotes {}, which the ruleset does not have", quotation.name));
            continue;
        };
        if !(quotation.in_part && is_part_of(&quotation.lines, lines)) {
            let difference = of_texts(&quotation.lines.join("\n"), &lines.join("\n"));
            differences.extend(difference.map(|text| format!("{page} quotes {}:\n{text}", quotation.name)));
        }
    }
    (!differences.is_empty()).then(|| differences.join("\n"))
}

/// The objects of a listing by name.
fn objects(text: &str) -> BTreeMap<String, Lines> {
    quotations(&format!("```\n{text}\n```")).into_iter().map(|object| (object.name, object.lines)).collect()
}

/// The objects of table `inet palisade` in the fenced blocks of a page.
fn quotations(page: &str) -> Vec<Quoted> {
    let mut all = Vec::new();
    let mut open: Option<Quoted> = None;
    let (mut fenced, mut ours, mut command) = (false, true, "");
    for line in page.lines().map(str::trim) {
        if line.starts_with("```") {
            (fenced, ours, command) = (!fenced, true, "");
        } else if !fenced {
        } else if let Some(quoted) = &mut open {
            match line {
                "}" => all.extend(open.take()),
                "…" => quoted.in_part = true,
                _ => push(&mut quoted.lines, &without_counts(line)),
            }
        } else if line.starts_with("# ") || line.starts_with("$ ") {
            (command, ours) = (line, true);
        } else if let Some(table) = line.strip_prefix("table ") {
            ours = table.starts_with("inet palisade {");
        } else if let (true, Some(name)) = (ours, line.strip_suffix(" {"))
            && ["chain ", "set ", "map "].iter().any(|kind| name.starts_with(kind))
        {
            // An element is listed without the others and without its map's comment.
            let in_part = command.contains("nft get element");
            open = Some(Quoted { name: name.to_owned(), command: command.to_owned(), lines: Vec::new(), in_part });
        }
    }
    all
}

/// Adds a line; the lines of one list of elements are joined.
fn push(lines: &mut Lines, line: &str) {
    match lines.last_mut() {
        Some(last) if last.starts_with("elements = {") && !last.ends_with('}') => *last = format!("{last} {line}"),
        _ => lines.push(line.to_owned()),
    }
}

/// `counter packets 7 bytes 346 goto …` as `counter goto …`.
fn without_counts(line: &str) -> String {
    let Some((before, after)) = line.split_once("counter packets ") else { return line.to_owned() };
    let rest = after.splitn(4, ' ').nth(3).unwrap_or_default();
    format!("{before}counter {rest}").trim_end().to_owned()
}

/// Whether the lines are among the others, in order. An element may be part of a list of elements.
fn is_part_of(part: &[String], whole: &[String]) -> bool {
    let mut rest = whole.iter();
    let elements =
        |line: &str| line.strip_prefix("elements = { ").and_then(|list| list.strip_suffix(" }")).map(str::to_owned);
    part.iter().all(|line| {
        rest.any(|other| {
            other == line || elements(line).zip(elements(other)).is_some_and(|(some, all)| all.contains(&some))
        })
    })
}

/// The lines of a listing without the rules of the verdict cache: they come after a commit, and go with the next.
pub(crate) fn without_stamps(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter(|line| !line.contains("comment \"stamp "))
}

#[test]
fn a_stale_quotation_is_found() {
    let listing =
        "table inet palisade {\n\tset a {\n\t\telements = { 1,\n\t\t\t2 }\n\t}\n\tchain c {\n\t\tx\n\t\ty\n\t}\n}";
    let there = objects(listing);
    assert_eq!(there["set a"], ["elements = { 1, 2 }"]);
    let quote = |text: &str| quotations(&format!("```text\n{text}\n```")).remove(0);
    let whole = quote("chain c {\n  x\n}");
    assert!(!whole.in_part && whole.lines != there["chain c"]);
    let part = quote("chain c {\n  …\n  y\n}");
    assert!(part.in_part && is_part_of(&part.lines, &there["chain c"]));
    assert!(!is_part_of(&quote("chain c {\n  …\n  z\n}").lines, &there["chain c"]));
    assert!(quotations("```\ntable inet other {\nchain c {\n}\n```").is_empty());
    assert_eq!(without_counts("counter packets … bytes … goto drop"), "counter goto drop");
}
