//! Order for what is short. The sorts and trees of the standard library are made for long lists, and each type that
//! uses one adds up to ten kilobytes of code.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// `items` in the order of `compare`; those that are equal stay as they were.
pub(crate) fn in_order<T>(
    items: impl IntoIterator<Item = T>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<T> {
    let mut sorted = Vec::new();
    for item in items {
        let at = sorted.partition_point(|other| compare(other, &item).is_le());
        sorted.insert(at, item);
    }
    sorted
}

/// A map in a list, in the order of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Where the key is, or where it would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(k, _)| k.borrow().cmp(key))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Puts `value` in the place of the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => {
                if let Some((_, old)) = self.0.get_mut(at) {
                    *old = value;
                }
            }
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Keeps these, and little room for others.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.0.retain(|(_, value)| keep(value));
        self.0.shrink_to(self.0.len() * 2);
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    /// Of equal keys the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut map = Self::default();
        for (key, value) in items {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn sorts_and_keeps_equals_as_they_were() {
        fastrand::seed(1);
        for len in 0..40 {
            let items: Vec<(u8, usize)> = (0..len).map(|i| (fastrand::u8(..8), i)).collect();
            let mut want = items.clone();
            want.sort_by_key(|(key, _)| *key);
            assert_eq!(in_order(items, |a, b| a.0.cmp(&b.0)), want);
        }
    }

    /// The same as a tree, whatever is done to both.
    #[test]
    fn map_is_as_a_tree() {
        fastrand::seed(2);
        let mut map = SortedMap::default();
        let mut tree = BTreeMap::new();
        for i in 0..5_000 {
            let key = fastrand::u8(..40).to_string();
            match fastrand::u8(..8) {
                0..3 => {
                    map.insert(key.clone(), i);
                    tree.insert(key, i);
                }
                3..6 => assert_eq!(map.remove(key.as_str()), tree.remove(key.as_str())),
                6 => assert_eq!(map.get(key.as_str()), tree.get(key.as_str())),
                _ if i % 50 == 0 => {
                    map.retain(|value| value % 3 != 0);
                    tree.retain(|_, value| *value % 3 != 0);
                }
                _ => {}
            }
            assert_eq!(map.len(), tree.len());
            assert!(map.iter().eq(tree.iter()));
            assert_eq!(map.is_empty(), tree.is_empty());
        }
        let same: SortedMap<_, _> = [("b", 1), ("a", 2), ("b", 3)].into_iter().collect();
        assert_eq!(same.0, [("a", 2), ("b", 3)]);
    }
}
