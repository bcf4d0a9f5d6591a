//! Colours of verdicts and severities, on a terminal only.

use std::borrow::Cow;
use std::io;
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Of `allow` and of `deny`.
const ALLOW: Style = AnsiColor::Green.on_default();
const DENY: Style = AnsiColor::Red.on_default().bold();
/// Of severities.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const NOTE: Style = AnsiColor::Cyan.on_default();

/// Whether stdout takes colours: it is a terminal, and NO_COLOR is not set; CLICOLOR_FORCE and TERM are honoured too.
fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| AutoStream::choice(&io::stdout()) != ColorChoice::Never)
}

/// Text in a style.
pub(crate) fn styled(text: &str, style: Style) -> String {
    if is_on() { painted(text, style) } else { text.to_owned() }
}

fn painted(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// Answers with the verdicts that begin their lines, or follow `egress` or `ingress`, in colours.
pub(crate) fn verdicts(answers: &str) -> Cow<'_, str> {
    if is_on() { Cow::Owned(answers.split_inclusive('\n').map(verdict).collect()) } else { Cow::Borrowed(answers) }
}

fn verdict(line: &str) -> String {
    let rest = line.trim_start();
    let rest = rest.strip_prefix("egress").or_else(|| rest.strip_prefix("ingress")).unwrap_or(rest);
    let rest = rest.trim_start_matches([':', ' ']);
    for (word, style) in [("allow", ALLOW), ("deny", DENY)] {
        if let Some(after) = rest.strip_prefix(word).filter(|after| after.starts_with(':')) {
            let before = line.strip_suffix(rest).unwrap_or_default();
            return format!("{before}{}{after}", painted(word, style));
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    //! Seen to fail when: a rule that "allows it" is painted; a verdict after a direction is not.

    use super::verdict;

    #[test]
    fn only_verdicts_are_painted() {
        let (green, red, end) = ("\u{1b}[32m", "\u{1b}[1m\u{1b}[31m", "\u{1b}[0m");
        for (line, expected) in [
            ("allow: a/b to c/d, TCP 1\n", format!("{green}allow{end}: a/b to c/d, TCP 1\n")),
            ("  egress   deny: policy x\n", format!("  egress   {red}deny{end}: policy x\n")),
            ("ingress: deny: none\n", format!("ingress: {red}deny{end}: none\n")),
            ("  shop/allow ingress[0]: allows it\n", "  shop/allow ingress[0]: allows it\n".to_owned()),
            ("allowed\n", "allowed\n".to_owned()),
            ("", String::new()),
        ] {
            assert_eq!(verdict(line), expected);
        }
    }
}
