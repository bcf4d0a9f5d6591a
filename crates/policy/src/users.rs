//! Counts the users of shared things.

use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Shared things, each with its number of users. A thing exists from its first user to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users<K>(BTreeMap<K, usize>);

impl<K> Default for Users<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Users<K> {
    /// Adds a user; true if it is the first.
    pub fn gain(&mut self, key: &K) -> bool
    where
        K: Clone,
    {
        if let Some(count) = self.0.get_mut(key) {
            *count = count.saturating_add(1);
            return false;
        }
        self.0.insert(key.clone(), 1);
        true
    }

    /// Removes a user; true if it was the last. False if there is none.
    pub fn lose<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(count) = self.0.get_mut(key) else { return false };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return false;
        }
        self.0.remove(key);
        true
    }

    /// Whether the thing has a user.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_user_and_the_last_one_matter() {
        let mut users = Users::default();
        assert!(users.gain(&"set".to_owned()));
        assert!(!users.gain(&"set".to_owned()));
        assert!(users.gain(&"map".to_owned()), "each thing is counted alone");
        assert!(!users.lose("set"));
        assert!(users.contains_key("set"));
        assert!(users.lose("set"));
        assert!(!users.contains_key("set") && users.contains_key("map"));
        assert!(users.gain(&"set".to_owned()), "it is new again");
    }

    #[test]
    fn a_thing_without_users_cannot_lose_one() {
        let mut users: Users<u8> = Users::default();
        assert!(!users.lose(&1));
        users.gain(&1);
        assert!(users.lose(&1));
        assert!(!users.lose(&1));
        assert_eq!(users, Users::default());
    }
}
