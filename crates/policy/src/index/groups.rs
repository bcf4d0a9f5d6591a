//! The groups of local IPs, and the groups under each policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Users;
use crate::compile::Group;
use crate::input::NamespacedName;

/// Groups by number, because a group may be under thousands of policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    next: u64,
    numbers: BTreeMap<Group, u64>,
    by_number: BTreeMap<u64, Group>,
    /// The number of (IP, direction) pairs in each group.
    members: Users<u64>,
    of_policy: BTreeMap<NamespacedName, BTreeSet<u64>>,
}

impl Groups {
    /// Adds a member. Returns the shared copy of the group, and whether it is new.
    pub(super) fn enter(&mut self, group: &Group) -> (Group, bool) {
        if let Some((known, number)) = self.numbers.get_key_value(group) {
            self.members.gain(number);
            return (known.clone(), false);
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(group.clone(), number);
        self.by_number.insert(number, group.clone());
        self.members.gain(&number);
        for key in group.policies() {
            self.of_policy.entry(key).or_default().insert(number);
        }
        (group.clone(), true)
    }

    /// Removes a member. If it was the last, returns the policies that are left without a group.
    pub(super) fn leave(&mut self, group: &Group) -> Option<Vec<NamespacedName>> {
        let number = *self.numbers.get(group)?;
        if !self.members.lose(&number) {
            return None;
        }
        self.numbers.remove(group);
        self.by_number.remove(&number);
        let mut unused = Vec::new();
        for key in group.policies() {
            if let Some(numbers) = self.of_policy.get_mut(&key) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.of_policy.remove(&key);
                    unused.push(key);
                }
            }
        }
        Some(unused)
    }

    /// The groups under any of these policies, each once, without those from `first_new` on.
    pub(super) fn under(&self, policies: &BTreeSet<NamespacedName>, first_new: u64) -> Vec<Group> {
        let numbers = policies.iter().filter_map(|key| self.of_policy.get(key)).flatten();
        let numbers: BTreeSet<u64> = numbers.copied().filter(|number| *number < first_new).collect();
        numbers.iter().filter_map(|number| self.by_number.get(number)).cloned().collect()
    }

    /// The number of the next new group.
    pub(super) fn next(&self) -> u64 {
        self.next
    }
}

/// Whether a group is under the policy of this name.
pub(super) fn is_under(group: Option<&Group>, policy: &Arc<str>) -> bool {
    match group {
        Some(Group::Policies { policies, .. }) => policies.binary_search(policy).is_ok(),
        _ => false,
    }
}
