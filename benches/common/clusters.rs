//! The clusters that an agent is measured in, for people.

/// Their names and descriptions, in the order of the page.
pub(crate) const CLUSTERS: [(&str, &str); 6] = [
    ("W1", "30 local pods of 330, 60 policies, 20 namespaces"),
    ("W2", "110 local pods of 5,110, 500 policies, 100 namespaces"),
    ("W3", "250 local pods of 50,250, 5,000 policies, 1,000 namespaces"),
    ("W5", "30 local pods of 330; one policy of 10,000 ipBlocks with 1,000 excepts, one of 200 port ranges"),
    ("W6", "250 local pods of 100,250, 10,000 policies of one rule, 1,000 namespaces"),
    ("W8", "W2 with both families"),
];
