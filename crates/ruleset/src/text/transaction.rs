//! Transactions, as the commands of `nft` that would do the same.

use std::fmt::{self, Write};

use super::{rule, write_element};
use crate::change::{Operation, Transaction};
use crate::model::{SetKind, TABLE};

/// A line for each batch, and one for each object, element or rule that it changes.
pub fn transaction(transaction: &Transaction) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    write_transaction(&mut text, transaction).ok();
    text
}

fn write_transaction(out: &mut String, transaction: &Transaction) -> fmt::Result {
    for batch in transaction.batches() {
        let waits = if batch.waits { ", once packets in flight have left" } else { "" };
        writeln!(out, "# {}{waits}", batch.name)?;
        batch.operations.iter().try_for_each(|operation| write_operation(out, operation))?;
    }
    Ok(())
}

fn write_operation(out: &mut String, operation: &Operation) -> fmt::Result {
    let (verb, elements) = match operation {
        Operation::AddElements(_, elements) => ("add", elements),
        Operation::DeleteElements(_, elements) => ("delete", elements),
        Operation::AppendRules(chain, rules) => {
            return rules.iter().try_for_each(|one| writeln!(out, "add rule inet {TABLE} {chain} {}", rule(one)));
        }
        other => {
            let command = match other {
                Operation::AddCounter(_) => "add counter",
                Operation::AddSet(_, set) if set.kind == SetKind::VerdictMap => "add map",
                Operation::AddSet(..) => "add set",
                Operation::DeleteSet(_) => "delete set",
                Operation::AddChain(..) => "add chain",
                Operation::FlushChain(_) => "flush chain",
                _ => "delete chain",
            };
            return writeln!(out, "{command} inet {TABLE} {}", other.object());
        }
    };
    for (key, element) in elements {
        write!(out, "{verb} element inet {TABLE} {} {{ ", operation.object())?;
        write_element(out, key, element)?;
        out.write_str(" }\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::change::Batch;
    use crate::model::{Chain, Element, Expression, Key, Rule, Verdict};
    use crate::name::Name;

    #[test]
    fn each_operation_has_a_line() {
        let name = Name::new;
        let element = |comment: &str| Element { verdict: None, comment: Some(comment.into()) };
        let addresses = [([10, 0, 0, 1], "a/one"), ([10, 0, 0, 2], "a/two")];
        let elements: BTreeMap<_, _> =
            addresses.map(|(address, comment)| (Key::Address(address.into()), element(comment))).into();
        let drop = Rule { expressions: vec![Expression::Verdict(Verdict::Drop)], comment: Some("why".to_owned()) };
        let stage = vec![
            Operation::AddChain(name("new"), Chain::default()),
            Operation::AppendRules(name("new"), vec![drop.clone(), Rule { comment: None, ..drop }]),
            Operation::AddElements(name("set"), elements.clone()),
        ];
        let gone: BTreeMap<_, _> = elements.into_iter().take(1).collect();
        let switch = vec![Operation::DeleteElements(name("set"), gone), Operation::FlushChain(name("old"))];
        let batches = [("stage", false, stage), ("switch", true, switch), ("sweep", false, Vec::new())];
        let batch = |(name, waits, operations)| Batch { name, waits, operations };
        let text = transaction(&batches.into_iter().map(batch).collect());
        let expected = "# stage\n\
                        add chain inet palisade new\n\
                        add rule inet palisade new drop comment \"why\"\n\
                        add rule inet palisade new drop\n\
                        add element inet palisade set { 10.0.0.1 comment \"a/one\" }\n\
                        add element inet palisade set { 10.0.0.2 comment \"a/two\" }\n\
                        # switch, once packets in flight have left\n\
                        delete element inet palisade set { 10.0.0.1 comment \"a/one\" }\n\
                        flush chain inet palisade old\n";
        assert_eq!(text, expected);
    }
}
