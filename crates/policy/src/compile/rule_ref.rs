//! References to rules.

use std::fmt;
use std::sync::Arc;

use crate::input::Direction;

/// A rule of a policy of the group's namespace and direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef {
    /// The name of the policy.
    pub policy: Arc<str>,
    /// The direction of the rule.
    pub direction: Direction,
    /// Its position in `spec.ingress` or `spec.egress`.
    pub index: usize,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)
    }
}
