//! Seen to fail when: counters' values, handles, quotes or the verdict of a trace count; a line of a trace whose rule is
//! gone has no chain; a table of another family is ours.

use super::*;
use crate::model::{KeyType, Load, Set, SetKind};
use palisade_policy::input::Family;

fn ruleset() -> Ruleset {
    let mut ruleset = Ruleset::default();
    let (a, b, set) = (Name::new("ingress/a/x"), Name::new("ingress/b/y"), Name::new("pods/a/all-pods/1/4"));
    let verdict = |verdict| Expression::Verdict(verdict);
    let peers = Rule {
        expressions: vec![Expression::Match(Load::Client(Family::V4), Test::In(set.clone())), verdict(Verdict::Return)],
        comment: Some("a/x ingress[0]".to_owned()),
    };
    let drop = Rule {
        expressions: vec![Expression::Counter, verdict(Verdict::Goto(Name::new("drop/ingress")))],
        comment: Some("not allowed".to_owned()),
    };
    let chain = |rules| Chain { rules, ..Chain::default() };
    ruleset.chains.insert(a.clone(), chain(vec![peers, drop.clone()]));
    ruleset.chains.insert(b, chain(vec![drop]));
    ruleset.chains.insert(Name::new("drop/ingress"), chain(Vec::new()));
    let element = |verdict, comment: &str| Element { verdict, comment: Some(comment.into()) };
    let set_of = |kind, key, value| Set {
        kind,
        key: KeyType::Address(Family::V4),
        interval: false,
        comment: None,
        elements: [(key, value)].into(),
    };
    let key = |text: &str| Key::Address(text.parse().unwrap());
    ruleset.sets.insert(set, set_of(SetKind::Set, key("10.0.0.2"), element(None, "a/peer")));
    let to_a = element(Some(Verdict::Jump(a)), "a/pod");
    ruleset.sets.insert(Name::new("ingress4"), set_of(SetKind::VerdictMap, key("10.0.0.3"), to_a));
    ruleset.counters.insert(Name::new("drop/ingress/policy/4"));
    ruleset
}

fn found(pasted: &str) -> Vec<String> {
    let places = Pasted::read(pasted).unwrap().find(&ruleset());
    places.iter().map(|place| format!("{place:?}")).collect()
}

#[test]
fn lines_are_found_however_they_were_copied() {
    for (pasted, places) in [
        ("ingress/a/x", &["Chain(ingress/a/x)"][..]),
        ("\tchain ingress/a/x { # handle 7", &["Chain(ingress/a/x)"]),
        ("@pods/a/all-pods/1/4", &["Set(pods/a/all-pods/1/4)"]),
        ("counter drop/ingress/policy/4 {", &["Counter(drop/ingress/policy/4)"]),
        (
            "  ct original ip saddr  @pods/a/all-pods/1/4 return comment \"a/x ingress[0]\" # handle 12",
            &["Rule(ingress/a/x, 0)"],
        ),
        ("ct original ip saddr @pods/a/all-pods/1/4 return comment a/x ingress[0]", &["Rule(ingress/a/x, 0)"]),
        (
            "counter packets 7 bytes 346 goto drop/ingress comment \"not allowed\"",
            &["Rule(ingress/a/x, 1)", "Rule(ingress/b/y, 0)"],
        ),
        (
            "trace id 44b1bc73 inet palisade ingress/b/y rule counter packets 7 bytes 346 goto drop/ingress comment \
             \"not allowed\" (verdict goto drop/ingress)",
            &["Rule(ingress/b/y, 0)"],
        ),
        ("trace id 44b1bc73 inet palisade ingress/b/y verdict return", &["Chain(ingress/b/y)"]),
        ("trace id 1 inet palisade ingress/b/y rule ip saddr 10.0.0.1 drop (verdict drop)", &["Chain(ingress/b/y)"]),
        ("elements = { 10.0.0.2 comment \"a/peer\" }", &["Element(pods/a/all-pods/1/4, Address(10.0.0.2))"]),
        ("10.0.0.3 comment \"a/pod\" : jump ingress/a/x,", &["Element(ingress4, Address(10.0.0.3))"]),
        (
            "10.0.0.2 comment \"a/peer\", 10.0.0.3 comment \"a/pod\" : jump ingress/a/x }",
            &["Element(ingress4, Address(10.0.0.3))", "Element(pods/a/all-pods/1/4, Address(10.0.0.2))"],
        ),
        ("ingress/a/z", &[]),
    ] {
        assert_eq!(found(pasted), places, "{pasted}");
    }
}

#[test]
fn texts_that_cannot_be_looked_up() {
    let other = "trace id 44b1bc73 inet firewalld filter_FORWARD rule drop (verdict drop)";
    assert_eq!(Pasted::read(other), Err(Unreadable::OtherTable("inet firewalld".to_owned())));
    assert_eq!(
        Pasted::read("trace id 1 ip palisade forward verdict accept"),
        Err(Unreadable::OtherTable("ip palisade".to_owned()))
    );
    assert_eq!(Pasted::read(" \n\t\"\""), Err(Unreadable::Empty));
    assert_eq!(Pasted::read(&"x".repeat(MAX_TEXT + 1)), Err(Unreadable::TooLong));
}

#[test]
fn what_leads_to_an_object() {
    let leading = |name| leading_to(&ruleset(), &Name::new(name)).iter().map(Name::to_string).collect::<Vec<_>>();
    assert_eq!(leading("pods/a/all-pods/1/4"), ["ingress/a/x", "ingress4", "pods/a/all-pods/1/4"]);
    assert_eq!(leading("ingress/b/y"), ["ingress/b/y"]);
}
