//! Policies as large as an API server accepts, of every shape that has a cost.

use serde_json::{Value, json};

/// A repeatable source of numbers (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

/// Rules of about `count` terms. `peers` is `from` or `to`.
type Shape = fn(count: usize, peers: &str, random: &mut Random) -> Value;

/// Every shape by name.
pub(crate) const SHAPES: [(&str, Shape); 11] = [
    ("ports times pods", |count, peers, _| rules([rule(peers, many(count / 2, pods), ports(count / 2))])),
    ("ports times blocks", |count, peers, _| rules([rule(peers, many(count / 2, block), ports(count / 2))])),
    ("selectors", |count, peers, _| rules([rule(peers, many(count, both), Vec::new())])),
    ("short selectors", |count, peers, _| rules([rule(peers, many(count, pods), Vec::new())])),
    ("rules", |count, peers, _| rules((0..count).map(|n| rule(peers, vec![unlike(n)], vec![port(n)])))),
    ("overlapping ranges", |count, peers, random| {
        rules((0..count).map(|n| {
            let first = 1 + random.below(30_000);
            rule(peers, vec![pods(n)], vec![json!({ "port": first, "endPort": first + random.below(30_000) })])
        }))
    }),
    ("blocks", |count, peers, _| rules([rule(peers, many(count, block), Vec::new())])),
    ("exceptions", |count, peers, _| {
        let except: Vec<_> =
            (0..count).map(|n| format!("10.{}.{}.{}/32", n >> 15 & 255, n >> 7 & 255, (2 * n) & 255)).collect();
        rules([rule(peers, vec![json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": except } })], Vec::new())])
    }),
    ("named ports", |count, peers, _| {
        let ports = (0..count).map(|n| json!({ "port": format!("p-{n}") })).collect();
        rules([rule(peers, vec![json!({ "podSelector": {} })], ports)])
    }),
    ("long expressions", |count, peers, _| {
        let values: Vec<_> = (0..20).map(|n| format!("value-{n}-{}", "x".repeat(40))).collect();
        let expression = |n: usize| json!({ "key": format!("key-{n}"), "operator": "NotIn", "values": values });
        rules((0..count / 20).map(|n| {
            let all: Vec<_> = (0..5).map(|m| expression(n * 5 + m)).collect();
            rule(peers, vec![json!({ "podSelector": { "matchExpressions": all } })], vec![port(n)])
        }))
    }),
    ("a mix", |count, peers, random| {
        rules((0..count / 10).map(|n| {
            let term = |random: &mut Random| match random.below(4) {
                0 => pods(random.below(1000)),
                1 => both(random.below(1000)),
                2 => unlike(random.below(1000)),
                _ => block(random.below(10_000)),
            };
            let terms = (0..=random.below(9)).map(|_| term(random)).collect();
            rule(peers, terms, (0..random.below(6)).map(|m| port(n + m * random.below(500))).collect())
        }))
    }),
];

/// The rules of a shape in a direction, as large as fits in this many bytes.
pub(crate) fn grown(shape: Shape, peers: &str, bytes: usize, seed: u64) -> Value {
    let made = |count: usize| shape(count, peers, &mut Random::new(seed));
    let size = |count: usize| made(count).to_string().len();
    let (mut fits, mut too_many) = (40, 80);
    while size(too_many) <= bytes {
        (fits, too_many) = (too_many, 2 * too_many);
    }
    // To within a twentieth.
    while too_many - fits > fits / 20 + 1 {
        let middle = usize::midpoint(fits, too_many);
        if size(middle) <= bytes {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    made(fits)
}

fn rules(rules: impl IntoIterator<Item = Value>) -> Value {
    rules.into_iter().collect()
}

fn rule(peers: &str, terms: Vec<Value>, ports: Vec<Value>) -> Value {
    let mut rule = serde_json::Map::from_iter([(peers.to_owned(), Value::Array(terms))]);
    if !ports.is_empty() {
        rule.insert("ports".to_owned(), Value::Array(ports));
    }
    Value::Object(rule)
}

fn many(count: usize, term: fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(term).collect()
}

fn port(n: usize) -> Value {
    json!({ "port": 2 + 2 * n % 65_000 })
}

fn ports(count: usize) -> Vec<Value> {
    many(count, port)
}

fn pods(n: usize) -> Value {
    json!({ "podSelector": { "matchLabels": { "k": format!("v{n}") } } })
}

fn both(n: usize) -> Value {
    let labels = |key: &str, value: String| json!({ "matchLabels": { key: value } });
    json!({ "namespaceSelector": labels("k", format!("v{n}")), "podSelector": labels("x", format!("y{n}")) })
}

/// Selects nearly every pod.
fn unlike(n: usize) -> Value {
    json!({ "podSelector": { "matchExpressions": [{ "key": "k", "operator": "NotIn", "values": [format!("v{n}")] }] } })
}

fn block(n: usize) -> Value {
    json!({ "ipBlock": { "cidr": format!("{}.{}.{}.0/24", 11 + (n >> 15) % 200, n >> 7 & 255, (2 * n) & 255) } })
}
