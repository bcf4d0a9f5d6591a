//! The difference of two texts, line by line, so that a failing test prints only what differs.

#![expect(clippy::panic, reason = "it ends tests")]

use std::fmt::{Debug, Write as _};

use palisade_ruleset::model::Ruleset;
use palisade_ruleset::text;

/// Equal lines that are printed before and after each difference.
const CONTEXT: usize = 3;
/// Lines of a difference that are printed; more would scroll the first ones away.
const PRINTED: usize = 200;
/// Pairs of lines compared to align two texts. Beyond it, everything between the first and the last difference counts
/// as replaced.
const PAIRS: usize = 16_000_000;

/// Fails with the lines that differ, unless the texts are equal. `what` names them in the message.
///
/// # Panics
/// If the texts differ.
#[track_caller]
pub fn assert_same_text(left: &str, right: &str, what: &str) {
    if let Some(difference) = of_texts(left, right) {
        panic!("{what}: two texts differ\n{difference}");
    }
}

/// The lines that differ: those of the left text after `-`, those of the right one after `+`. None if the texts are
/// equal.
pub fn of_texts(left: &str, right: &str) -> Option<String> {
    if left == right {
        return None;
    }
    let (left, right): (Vec<_>, Vec<_>) = (left.split('\n').collect(), right.split('\n').collect());
    Some(printed(&aligned(&left, &right)))
}

/// The difference of two values, in their `{:#?}` form. None if they are equal.
pub fn of_values<T: Debug + PartialEq>(left: &T, right: &T) -> Option<String> {
    let of_forms = || of_texts(&format!("{left:#?}"), &format!("{right:#?}"));
    (left != right).then(|| of_forms().unwrap_or_else(|| "their debug forms are equal".to_owned()))
}

/// The difference of two rulesets, in nft's listing. None if they are equal.
pub fn of_rulesets(left: &Ruleset, right: &Ruleset) -> Option<String> {
    let listed = || of_texts(&text::ruleset(left), &text::ruleset(right));
    (left != right).then(|| listed().or_else(|| of_values(left, right)).unwrap_or_default())
}

/// One line of two aligned texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Left(&'a str),
    Right(&'a str),
}

fn aligned<'a>(left: &[&'a str], right: &[&'a str]) -> Vec<Line<'a>> {
    let equal = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let before = left.iter().zip(right).take_while(equal).count();
    let (head, left) = left.split_at(before);
    let (_, right) = right.split_at(before);
    let after = left.iter().rev().zip(right.iter().rev()).take_while(equal).count();
    let (left, tail) = left.split_at(left.len() - after);
    let (right, _) = right.split_at(right.len() - after);
    let same = |lines: &[&'a str]| lines.iter().map(|line| Line::Same(line)).collect::<Vec<_>>();
    [same(head), middle(left, right), same(tail)].concat()
}

/// Aligns two texts by their longest common subsequence of lines.
fn middle<'a>(left: &[&'a str], right: &[&'a str]) -> Vec<Line<'a>> {
    if left.len().saturating_mul(right.len()) > PAIRS {
        let left = left.iter().map(|line| Line::Left(line));
        return left.chain(right.iter().map(|line| Line::Right(line))).collect();
    }
    // common[l][r]: lines that left[l..] and right[r..] have in common.
    let width = right.len() + 1;
    let mut common = vec![0_u32; (left.len() + 1) * width];
    let at = |common: &[u32], l: usize, r: usize| common.get(l * width + r).copied().unwrap_or_default();
    for (l, left) in left.iter().enumerate().rev() {
        for (r, right) in right.iter().enumerate().rev() {
            let longest = if left == right {
                at(&common, l + 1, r + 1) + 1
            } else {
                at(&common, l + 1, r).max(at(&common, l, r + 1))
            };
            if let Some(cell) = common.get_mut(l * width + r) {
                *cell = longest;
            }
        }
    }
    let (mut l, mut r, mut lines) = (0, 0, Vec::new());
    loop {
        match (left.get(l), right.get(r)) {
            (Some(one), Some(other)) if one == other => {
                lines.push(Line::Same(one));
                (l, r) = (l + 1, r + 1);
            }
            (Some(one), other) if other.is_none() || at(&common, l + 1, r) >= at(&common, l, r + 1) => {
                lines.push(Line::Left(one));
                l += 1;
            }
            (_, Some(other)) => {
                lines.push(Line::Right(other));
                r += 1;
            }
            _ => return lines,
        }
    }
}

/// The differing lines with their context. Each block begins with the less indented lines above it, which name the
/// object that it belongs to.
fn printed(lines: &[Line<'_>]) -> String {
    let mut near = vec![false; lines.len()];
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))) {
        let run = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(lines.len());
        near.get_mut(run).into_iter().flatten().for_each(|near| *near = true);
    }
    let (mut text, mut count, mut adjoins) = (String::new(), 0, false);
    for (at, (line, near)) in lines.iter().zip(&near).enumerate() {
        if *near && count < PRINTED {
            if !adjoins {
                writeln!(text, "@@ {}", above(lines, at).join(" ")).ok();
            }
            let (mark, line) = match line {
                Line::Same(line) => (' ', line),
                Line::Left(line) => ('-', line),
                Line::Right(line) => ('+', line),
            };
            writeln!(text, "{mark}{line}").ok();
        }
        count += usize::from(*near);
        adjoins = *near;
    }
    if count > PRINTED {
        writeln!(text, "… and {} more lines", count - PRINTED).ok();
    }
    text
}

/// The lines that enclose this one, by indentation.
fn above<'a>(lines: &[Line<'a>], at: usize) -> Vec<&'a str> {
    let (head, rest) = lines.split_at(at);
    let mut indented = rest.first().map_or(0, |line| indentation(line.text()));
    let mut above = Vec::new();
    for text in head.iter().rev().map(Line::text).filter(|text| !text.trim().is_empty()) {
        if indentation(text) < indented {
            indented = indentation(text);
            above.push(text.trim());
        }
    }
    above.reverse();
    above
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

impl<'a> Line<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Same(line) | Self::Left(line) | Self::Right(line) => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(of_texts("a\nb\n", "a\nb\n"), None);
        assert_eq!(of_values(&[1], &[1]), None);
        assert_same_text("a", "a", "one line");
    }

    #[test]
    fn only_lines_that_differ_and_those_around_them_are_printed() {
        let left = "set one {\n\t1\n\t2\n\t3\n\t4\n\t5\n\t6\n\t7\n}\n";
        let right = left.replace("\t6\n", "\tsix\n\tmore\n");
        let expected = "@@ set one {\n \t3\n \t4\n \t5\n-\t6\n+\tsix\n+\tmore\n \t7\n }\n \n";
        assert_eq!(of_texts(left, &right).unwrap(), expected);
    }

    #[test]
    fn lines_are_aligned_by_what_both_texts_have() {
        assert_eq!(of_texts("a\nb\nc\nd", "b\nx\nd\ne").unwrap(), "@@ \n-a\n b\n-c\n+x\n d\n+e\n");
        assert_eq!(of_texts("", "a").unwrap(), "@@ \n-\n+a\n");
        assert_eq!(of_texts("a", "a\n").unwrap(), "@@ \n a\n+\n");
    }

    #[test]
    fn a_long_difference_is_cut() {
        let lines = |numbers: Range<u32>| numbers.fold(String::new(), |text, number| format!("{text}{number}\n"));
        let (left, right) = (lines(0..5_000), lines(5_000..10_000));
        let difference = of_texts(&left, &right).unwrap();
        assert_eq!(difference.lines().count(), 1 + PRINTED + 1);
        assert!(difference.ends_with("… and 9801 more lines\n"), "{difference}");
    }

    #[test]
    #[should_panic(expected = "the listing: two texts differ\n@@ \n-a\n+b\n")]
    fn the_assertion_prints_the_difference() {
        assert_same_text("a", "b", "the listing");
    }
}
