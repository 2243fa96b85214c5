//! What may be asked for again, within a limit of memory.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Values by key that take no more memory than a limit: what was not asked for longest is forgotten first. What is named
/// elsewhere stays as long as it is, and is that place's to limit.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    entries: FxHashMap<K, Entry<V>>,
    /// An entry is as old as its last use. When those of this generation have taken half of the limit, a new one begins,
    /// and those that are older than the last one go: each stays for as long as half of the limit is filled anew.
    generation: u64,
    generation_bytes: usize,
    limit: usize,
    named_elsewhere: fn(&V) -> bool,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    generation: u64,
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    pub(super) fn within(limit: usize, named_elsewhere: fn(&V) -> bool) -> Self {
        Self { entries: FxHashMap::default(), generation: 0, generation_bytes: 0, limit, named_elsewhere }
    }

    /// The value, which is used by that.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        if entry.generation != self.generation {
            entry.generation = self.generation;
            self.generation_bytes += entry.bytes;
        }
        Some(&entry.value)
    }

    /// Remembers a value that takes so much memory beyond its own size.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        let bytes = bytes + size_of::<(K, Entry<V>)>();
        let entry = Entry { value, bytes, generation: self.generation };
        self.generation_bytes += bytes;
        if let Some(before) = self.entries.insert(key, entry)
            && before.generation == self.generation
        {
            self.generation_bytes -= before.bytes;
        }
        if self.generation_bytes > self.limit / 2 {
            self.generation += 1;
            self.generation_bytes = 0;
            self.tidy();
        }
    }

    /// Forgets what is old and was named elsewhere until lately.
    pub(super) fn tidy(&mut self) {
        let (last, named_elsewhere) = (self.generation.saturating_sub(1), self.named_elsewhere);
        self.entries.retain(|_, entry| entry.generation >= last || named_elsewhere(&entry.value));
    }

    /// The memory of what is not named elsewhere.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let own = self.entries.values().filter(|entry| !(self.named_elsewhere)(&entry.value));
        own.map(|entry| entry.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LIMIT: usize = 100_000;

    fn table() -> Remembered<u32, Arc<u32>> {
        Remembered::within(LIMIT, |value| Arc::strong_count(value) > 1)
    }

    #[test]
    fn it_stays_within_its_limit_whatever_comes_and_is_asked_for() {
        let mut table = table();
        for key in 0..10_000 {
            table.insert(key, Arc::new(key), 900);
            // Some again and again, some that are about to go, and one with another value.
            table.get(&(key % 7));
            table.get(&key.saturating_sub(60));
            table.insert(key / 2, Arc::new(key), 500);
            let memory = table.memory();
            assert!(memory <= LIMIT + 2000, "{memory} after {key}");
        }
        assert!(table.memory() > LIMIT / 3, "{} is little", table.memory());
    }

    #[test]
    fn what_came_last_and_what_is_used_stays() {
        let mut table = table();
        for key in 0..1000 {
            table.insert(key, Arc::new(key), 900);
            assert_eq!(table.get(&3).map(|value| **value), (key >= 3).then_some(3));
            // Half of the limit, less the one that is used.
            for recent in key.saturating_sub(45)..=key {
                assert!(table.entries.contains_key(&recent), "{recent} of {key}");
            }
        }
        assert_eq!(table.get(&500), None);
    }

    #[test]
    fn what_is_named_elsewhere_stays_until_it_is_not() {
        let mut table = table();
        let named: Vec<Arc<u32>> = (0..500).map(Arc::new).collect();
        for value in &named {
            table.insert(**value, Arc::clone(value), 900);
        }
        for key in 500..1500 {
            table.insert(key, Arc::new(key), 900);
        }
        assert!((0..500).all(|key| table.get(&key).is_some()));
        drop(named);
        for key in 1500..1700 {
            table.insert(key, Arc::new(key), 900);
        }
        assert_eq!(table.get(&0), None);

        let mut table = self::table();
        let named: Vec<Arc<u32>> = (0..500).map(Arc::new).collect();
        for value in &named {
            table.insert(**value, Arc::clone(value), 900);
        }
        drop(named);
        table.tidy();
        assert!(table.memory() <= LIMIT, "{}", table.memory());
    }
}
