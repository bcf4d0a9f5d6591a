//! The groups that local IPs are in, and the groups under each policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compile::Group;
use crate::input::NamespacedName;

/// Groups by number, since a group may be under thousands of policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    next: u64,
    numbers: BTreeMap<Group, u64>,
    /// Each group, and its number of (IP, direction) pairs.
    members: BTreeMap<u64, (Group, usize)>,
    of_policy: BTreeMap<NamespacedName, BTreeSet<u64>>,
}

impl Groups {
    /// Adds a member. Returns the shared copy of the group, and whether it is new.
    pub(super) fn enter(&mut self, group: &Group) -> (Group, bool) {
        if let Some((known, count)) = self.numbers.get(group).and_then(|number| self.members.get_mut(number)) {
            *count += 1;
            return (known.clone(), false);
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(group.clone(), number);
        self.members.insert(number, (group.clone(), 1));
        for key in group.policies() {
            self.of_policy.entry(key).or_default().insert(number);
        }
        (group.clone(), true)
    }

    /// Removes a member. If it was the last, returns the policies that are left without a group.
    pub(super) fn leave(&mut self, group: &Group) -> Option<Vec<NamespacedName>> {
        let number = *self.numbers.get(group)?;
        let (_, count) = self.members.get_mut(&number)?;
        *count = count.saturating_sub(1);
        if *count > 0 {
            return None;
        }
        self.numbers.remove(group);
        self.members.remove(&number);
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

    /// The groups under any of these policies, each once; only those older than `first_new`.
    pub(super) fn under(&self, policies: &BTreeSet<NamespacedName>, first_new: u64) -> Vec<Group> {
        let numbers = policies.iter().filter_map(|key| self.of_policy.get(key)).flatten();
        let numbers: BTreeSet<u64> = numbers.copied().filter(|number| *number < first_new).collect();
        numbers.iter().filter_map(|number| self.members.get(number)).map(|(group, _)| group.clone()).collect()
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
