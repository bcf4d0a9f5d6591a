//! Values that many objects have in common.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::{Labels, Object, Pod};

/// The fewest values at which unused ones are dropped.
const FEW: usize = 1024;

/// Values that pods have in common, each in memory once: the labels of replicas, the names of namespaces, nodes and
/// ports.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    labels: Common<Labels>,
    texts: Common<Arc<str>>,
}

impl Pool {
    /// Makes an object use the memory of equal values that it had before.
    pub fn share(&mut self, object: &mut Object) {
        if let Object::Pod(pod) = object {
            self.share_pod(pod);
        }
    }

    fn share_pod(&mut self, pod: &mut Pod) {
        self.labels.share(&mut pod.labels, Labels::is_shared);
        let ports = pod.ports.iter_mut().map(|port| &mut port.name);
        for text in std::iter::once(&mut pod.key.namespace).chain(&mut pod.node).chain(ports) {
            self.texts.share(text, |text| Arc::strong_count(text) > 1);
        }
    }
}

#[derive(Clone, Debug)]
struct Common<T> {
    values: HashSet<T>,
    /// The number of values at which unused ones are dropped.
    most: usize,
}

impl<T> Default for Common<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), most: FEW }
    }
}

impl<T: Clone + Eq + Hash> Common<T> {
    fn share(&mut self, value: &mut T, is_used: impl Fn(&T) -> bool) {
        if let Some(known) = self.values.get(value) {
            value.clone_from(known);
            return;
        }
        if self.values.len() >= self.most {
            self.values.retain(is_used);
            // Half of the work at most is for values that stay.
            self.most = FEW.max(self.values.len().saturating_mul(2));
        }
        self.values.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::NamespacedName;

    fn pod(number: usize, app: &str) -> Object {
        let labels = [("app".to_owned(), app.to_owned())].into();
        Object::Pod(Pod { labels, ..Pod::new(NamespacedName::new("shop", format!("web-{number}"))) })
    }

    #[test]
    fn equal_values_share_memory_and_nothing_else_changes() {
        let mut pool = Pool::default();
        let [mut one, mut two] = [pod(1, "web"), pod(2, "web")];
        pool.share(&mut one);
        pool.share(&mut two);
        assert_eq!((&one, &two), (&pod(1, "web"), &pod(2, "web")));
        let (Object::Pod(one), Object::Pod(mut two)) = (one, two) else { panic!("pods") };
        assert!(one.labels.is_shared() && two.labels.is_shared());
        assert!(Arc::ptr_eq(&one.key.namespace, &two.key.namespace));
        two.labels.insert("app".to_owned(), "db".to_owned());
        assert_eq!(one.labels["app"], "web", "a change of one is not one of the other");
    }

    #[test]
    fn values_that_nobody_uses_are_dropped() {
        let mut pool = Pool::default();
        for number in 0..10 * FEW {
            pool.share(&mut pod(number, &number.to_string()));
        }
        assert!(pool.labels.values.len() <= FEW, "{}", pool.labels.values.len());
        let mut kept: Vec<_> = (0..3 * FEW).map(|number| pod(number, &number.to_string())).collect();
        kept.iter_mut().for_each(|object| pool.share(object));
        assert!(pool.labels.values.len() >= 3 * FEW);
    }
}
