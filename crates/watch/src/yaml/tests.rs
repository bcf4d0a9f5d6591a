//! Seen to fail when: aliases may repeat without limit (memory runs out) or nest without limit; a key may occur twice;
//! lines are counted from the wrong document.

use super::*;
use crate::node::{Entry, Value};

fn roots(text: &str) -> Vec<Result<Node, Malformed>> {
    documents(text).into_iter().map(|document| document.root).collect()
}

fn error(text: &str) -> Malformed {
    roots(text).into_iter().find_map(Result::err).expect("an error")
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value, _) => (*value).into(),
        Value::Integer(value, _) => (*value).into(),
        Value::Float(written) => format!("float {written}").into(),
        Value::String(text) => (**text).into(),
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => {
            serde_json::Value::Object(entries.iter().map(|e| (e.key.to_string(), json(&e.node))).collect())
        }
    }
}

fn all(text: &str) -> Vec<serde_json::Value> {
    roots(text).iter().map(|root| json(root.as_ref().expect("YAML"))).collect()
}

#[test]
fn documents_are_split_as_kubectl_does() {
    use serde_json::json;
    assert_eq!(all(""), Vec::<serde_json::Value>::new());
    assert_eq!(all("# only\n\n# comments\n"), Vec::<serde_json::Value>::new());
    assert_eq!(all("a: 1\n---\nb: 2\n"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(all("# c\n---\na: 1\n"), [json!({"a": 1})]);
    assert_eq!(all("---\n---\na: 1\n---\n# c\n"), [json!(null), json!({"a": 1}), json!(null)]);
    assert_eq!(all("a: 1\n...\n---\nb: 2\n"), [json!({"a": 1}), json!({"b": 2})]);
    assert!(error("%YAML 1.1\n---\na: 1\n").reason.contains("directive"));
    assert_eq!(all("\u{feff}---\r\na: 1\r\n---\r\nb: x\r\n"), [json!({"a": 1}), json!({"b": "x"})]);
    assert_eq!(all("a: 1\n--- # c\nb: 2\n"), [json!({"a": 1}), json!({"b": 2})]);
    assert!(error("--- {a: 1}\n").reason.contains("nothing but a comment"));
    assert_eq!(all("a: |\n  ---\n  x\n"), [json!({"a": "---\nx\n"})]);
    assert_eq!(all("a: ---\n"), [json!({"a": "---"})]);
}

#[test]
fn a_mistake_affects_its_own_document_only() {
    let documents = documents("a: [1\n---\nb: 2\n---\nc: 1\nc: 2\n---\nd: 4\n");
    let good: Vec<_> = documents.iter().map(|document| (document.number, document.root.is_ok())).collect();
    assert_eq!(good, [(1, false), (2, true), (3, false), (4, true)]);
}

#[test]
fn lines_are_those_of_the_file() {
    let roots = roots("# c\n---\na: 1\n---\n\nb:\n  - x\n  - y: z\n");
    let second = roots[1].as_ref().unwrap();
    let Value::Mapping(entries) = &second.value else { panic!("{second:?}") };
    let Entry { line, node, .. } = &entries[0];
    assert_eq!((second.line, *line), (6, 6));
    let Value::Sequence(items) = &node.value else { panic!("{node:?}") };
    assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn anchors_and_merges() {
    use serde_json::json;
    assert_eq!(all("a: &x {k: 1}\nb: *x\n"), [json!({"a": {"k": 1}, "b": {"k": 1}})]);
    assert_eq!(all("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\n"), [json!({"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 3}})]);
    assert_eq!(
        all("x: &x {k: 1}\nz: &z {k: 2, l: 2}\nb: {<<: [*x, *z]}\n"),
        [json!({"x": {"k": 1}, "z": {"k": 2, "l": 2}, "b": {"k": 1, "l": 2}})]
    );
    assert_eq!(all("\"<<\": 1\n"), [json!({"<<": 1})]);
    assert!(error("a: &x {k: 1}\nb: {k: 2, <<: *x}\n").reason.contains("parsers disagree"));
    assert!(error("b: {<<: 1}\n").reason.contains("merge key"));
    assert!(error("a: *nowhere\n").reason.contains("not YAML"));
    assert!(error("a: &x [*x]\n").reason.contains("anchor"));
}

#[test]
fn keys_are_text_and_unique() {
    use serde_json::json;
    assert_eq!(all("80: a\non: b\n"), [json!({"80": "a", "true": "b"})]);
    assert_eq!(error("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n").line, 5);
    assert!(error("80: a\n\"80\": b\n").reason.contains("twice"));
    assert!(error("{a: b}: c\n").reason.contains("a key is"));
    assert!(error("~: c\n").reason.contains("a key is empty"));
}

#[test]
fn tags() {
    use serde_json::json;
    assert_eq!(
        all("[!!str 80, !!int \"80\", !!bool yes, !!null ~, ! 80, !!binary eA==]"),
        [json!(["80", 80, true, null, "80", "x"])]
    );
    assert!(error("a: !!int x\n").reason.contains("is not a !!int"));
    assert!(error("a: !!binary e\n").reason.contains("is not a !!binary"));
}

#[test]
fn json_is_read_in_any_layout() {
    let long = "x".repeat(5_000);
    let value = serde_json::json!({"a": {"text": long, "escaped": "\u{e9}\n\"\\/\u{1f600}", "n": [1, -2, true, null]}, "b": []});
    assert_eq!(all(&value.to_string()), std::slice::from_ref(&value));
    assert_eq!(all(&serde_json::to_string_pretty(&value).unwrap()), std::slice::from_ref(&value));
    assert_eq!(all("{\n\t\"a\":\t[\n\t\t1\n\t]\n}\n"), [serde_json::json!({"a": [1]})]);
    assert_eq!(all(r#"{"a":"\/\ud83d\ude00","b":{"c":1}}"#), [serde_json::json!({"a": "/\u{1f600}", "b": {"c": 1}})]);
}

#[test]
fn memory_and_depth_are_bounded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let previous = format!("*a{}", level - 1);
        bomb = format!("{bomb}a{level}: &a{level} [{}]\n", vec![previous; 10].join(", "));
    }
    assert!(error(&bomb).reason.contains("repeat too much"));

    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(roots(&deep(100))[0].is_ok());
    assert!(roots(&deep(10_000))[0].is_err());
    let mut tower = "a0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        tower = format!("{tower}a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert!(error(&tower).reason.contains("nested too deeply"));
    let indented = (0..5_000).map(|level| " ".repeat(level) + "a:\n").collect::<Vec<_>>().concat();
    assert!(roots(&indented)[0].is_err());
}

#[test]
fn the_kind_of_an_unreadable_document_is_known_if_it_is_written_once() {
    let kinds = |text: &str| documents(text).into_iter().map(|document| document.kind).collect::<Vec<_>>();
    assert_eq!(kinds("kind: ConfigMap # x\n\t- a\n---\nkind: Pod\nkind: Pod\n"), [Some("ConfigMap".to_owned()), None]);
    assert_eq!(kinds("a: [\n---\nkind: {{ x }}\n  - b\n---\nkind: Pod\n"), [None, None, None]);
}
