//! docs/schema describes all that verbs print as JSON: of the examples, of mistakes, and of generated clusters.
//!
//! Seen to fail when: a field is left out of an answer or added to it, at the top or in a nested object; a verdict has
//! another word; a schema has no verb, or allows further fields.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use palisade_testkit::generate::{Case, arb_case_with, flow_line, manifests};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::cli::forms;
use crate::cli::place::Place;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The verbs whose answers have a schema, as docs/schema names them.
const VERBS: [&str; 9] =
    ["trace", "check", "pods", "explain-flow", "explain-pod", "explain-policy", "explain-rule", "diff", "graph"];

/// How many clusters are generated, and pods and policies explained in each.
const CLUSTERS: usize = 12;
const EXPLAINED: usize = 3;

fn schema(verb: &str) -> Value {
    let path = Path::new(ROOT).join("docs/schema").join(format!("{verb}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The schemas, and how many values each has described.
struct Schemas(Vec<(&'static str, Validator, usize)>);

impl Schemas {
    fn new() -> Self {
        Self(VERBS.map(|verb| (verb, jsonschema::draft202012::new(&schema(verb)).unwrap(), 0)).into())
    }

    /// Holds all that a command prints against the schema of its verb.
    fn hold(&mut self, place: &Place, arguments: &str) {
        let ended = place.run(&format!("{arguments} -o json"));
        let is_of = |verb: &str| arguments.starts_with(&verb.replace('-', " "));
        let (_, validator, count) = self.0.iter_mut().find(|(verb, ..)| is_of(verb)).unwrap();
        let values = serde_json::Deserializer::from_str(&ended.out).into_iter::<Value>();
        for value in values.map(|value| value.unwrap_or_else(|error| panic!("{arguments}: {error}: {ended:?}"))) {
            let wrong: Vec<_> =
                validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(wrong.is_empty(), "{arguments}: {}\n{value:#}", wrong.join("\n"));
            *count += 1;
        }
    }
}

#[test]
fn every_answer_is_as_its_schema_says() {
    let mut schemas = Schemas::new();
    let place = forms::place("schema");
    forms::ANSWERS.iter().for_each(|arguments| schemas.hold(&place, arguments));
    for example in ["shop.yaml", "team", "platform"] {
        let path = format!("{ROOT}/docs/example/{example}");
        ["graph", "pods", "check"].iter().for_each(|verb| schemas.hold(&place, &format!("{verb} -f {path}")));
        schemas.hold(&place, &format!("diff {path} --apply {ROOT}/docs/example/default-deny.yaml"));
    }
    schemas.hold(&place, &format!("check -f {ROOT}/tests/data/check/findings"));
    let team = format!("-f {ROOT}/docs/example/team");
    schemas.hold(&place, &format!("explain flow {team} deploy/shop/web svc/shop/api"));
    schemas.hold(&place, &format!("explain policy {team} shop/api-from-web"));
    assert!(schemas.0.iter().all(|(_, _, count)| *count > 0), "a schema describes nothing");
}

#[test]
fn answers_on_generated_clusters_are_as_their_schemas_say() {
    let (mut schemas, mut runner) = (Schemas::new(), TestRunner::deterministic());
    let clusters = arb_case_with(5..40);
    let mut before = None;
    for number in 0..CLUSTERS {
        let Case { state, flows, .. } = clusters.new_tree(&mut runner).unwrap().current();
        let lines: Vec<_> = flows.iter().map(flow_line).collect();
        let files = [("all/all.yaml", manifests(&state)), ("flows", lines.join("\n"))];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let place = Place::new(&format!("generated-{number}"), &files);
        schemas.hold(&place, "trace -f all --flows flows");
        ["check", "pods", "graph"].iter().for_each(|verb| schemas.hold(&place, &format!("{verb} -f all")));
        ["egress4", "ingress6"].iter().for_each(|map| schemas.hold(&place, &format!("explain rule -f all {map}")));
        for pod in state.pods.keys().take(EXPLAINED) {
            schemas.hold(&place, &format!("explain pod -f all {pod}"));
        }
        for policy in state.policies.keys().take(EXPLAINED) {
            schemas.hold(&place, &format!("explain policy -f all {policy}"));
        }
        let pods: Vec<_> = state.pods.keys().collect();
        for pair in pods.windows(2).take(EXPLAINED) {
            // Two pods may have no family in common; there is no answer then.
            schemas.hold(&place, &format!("explain flow -f all {} {} 80", pair[0], pair[1]));
        }
        if let Some(earlier) = before.replace(place) {
            let place = before.as_ref().unwrap();
            schemas.hold(place, &format!("diff {} all", earlier.0.join("all").display()));
        }
    }
    assert!(
        schemas.0.iter().all(|(_, _, count)| *count >= CLUSTERS - 1),
        "{:?}",
        schemas.0.iter().map(|(verb, _, count)| (verb, count)).collect::<Vec<_>>()
    );
}

#[test]
fn schemas_are_strict_and_the_page_names_each() {
    fn loose(schema: &Value, at: &str, found: &mut Vec<String>) {
        let is_object = schema.get("type").is_some_and(|kind| kind == "object") && schema.get("properties").is_some();
        if is_object && schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            found.push(at.to_owned());
        }
        match schema {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| loose(value, &format!("{at}/{key}"), found)),
            Value::Array(items) => items.iter().for_each(|value| loose(value, at, found)),
            _ => {}
        }
    }
    let page = fs::read_to_string(Path::new(ROOT).join("docs/json.md")).unwrap();
    for verb in VERBS {
        let mut found = Vec::new();
        loose(&schema(verb), verb, &mut found);
        assert!(found.is_empty(), "further fields are allowed: {found:?}");
        assert!(page.contains(&format!("[{verb}.json](schema/{verb}.json)")), "{verb} is not on the page");
    }
    let files = fs::read_dir(Path::new(ROOT).join("docs/schema")).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, VERBS.map(|verb| format!("{verb}.json")).into());
}
