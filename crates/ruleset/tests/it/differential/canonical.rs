//! A ruleset without names: its jumps, rules and contents.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use palisade_ruleset::model::{Expression, Rule, Ruleset, Test, Verdict};
use palisade_ruleset::name::Name;

/// Everything reachable from the base chains, by content; equal for rulesets that differ only in names, comments and
/// the order of rules that all return.
pub(crate) fn canonical(ruleset: &Ruleset) -> Vec<String> {
    let mut form = Form { ruleset, known: BTreeMap::new() };
    let mut texts: Vec<_> = ruleset.chains.keys().map(|name| form.chain(name)).collect();
    texts.extend(ruleset.sets.keys().map(|name| form.set(name)));
    texts.sort();
    texts
}

struct Form<'a> {
    ruleset: &'a Ruleset,
    known: BTreeMap<Name, String>,
}

impl Form<'_> {
    fn chain(&mut self, name: &Name) -> String {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let chain = &self.ruleset.chains[name];
        let mut rules: Vec<_> = chain.rules.iter().map(|rule| self.rule(rule)).collect();
        let is_of_policies = ["egress/", "ingress/", "ports/"].iter().any(|head| name.as_str().starts_with(head));
        if is_of_policies {
            rules.sort();
        }
        let text = short(&format!("chain {:?} {rules:?}", chain.hook));
        self.known.insert(name.clone(), text.clone());
        text
    }

    fn set(&mut self, name: &Name) -> String {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let set = &self.ruleset.sets[name];
        let elements = set.elements.iter().map(|(key, element)| {
            let verdict = element.verdict.as_ref().map(|verdict| self.verdict(verdict));
            format!("{key:?} {verdict:?}")
        });
        let text = format!("set {:?} {:?} {} {:?}", set.kind, set.key, set.interval, elements.collect::<Vec<_>>());
        let text = short(&text);
        self.known.insert(name.clone(), text.clone());
        text
    }

    fn rule(&mut self, rule: &Rule) -> String {
        let expression = |expression: &Expression| match expression {
            Expression::Match(load, Test::In(set)) => format!("{load:?} in {}", self.set(set)),
            Expression::Lookup(loads, set) => format!("{loads:?} in {}", self.set(set)),
            Expression::Vmap(load, map) => format!("{load:?} by {}", self.set(map)),
            Expression::Verdict(verdict) => self.verdict(verdict),
            Expression::Match(..) | Expression::Counter | Expression::CountIn(_) | Expression::SetMark(_) => {
                format!("{expression:?}")
            }
        };
        rule.expressions.iter().map(expression).collect::<Vec<_>>().join(", ")
    }

    fn verdict(&mut self, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Jump(chain) => format!("jump {}", self.chain(chain)),
            Verdict::Goto(chain) => format!("goto {}", self.chain(chain)),
            Verdict::Accept | Verdict::Drop | Verdict::Return => format!("{verdict:?}"),
        }
    }
}

/// The start, for people, and a hash of the whole.
fn short(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let head: String = text.chars().take(60).collect();
    format!("<{head} {:016x}>", hasher.finish())
}
