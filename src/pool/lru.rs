//! An order of use: a linked list over the pool's slots, so that joining, leaving and finding the oldest cost the same
//! with one idle connection and with ten thousand. Pure.

/// Slots in the order in which they joined.
#[derive(Debug, Default)]
pub(super) struct Lru {
    /// By slot: its neighbours while it is in the list.
    links: Vec<Link>,
    oldest: Option<usize>,
    newest: Option<usize>,
    length: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    older: Option<usize>,
    newer: Option<usize>,
}

impl Lru {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn oldest(&self) -> Option<usize> {
        self.oldest
    }

    /// From the oldest to the newest.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.oldest, |index| self.links[*index].newer)
    }

    /// Joins as the newest. It must not be in the list.
    pub(super) fn join(&mut self, index: usize) {
        if self.links.len() <= index {
            self.links.resize(index + 1, Link::default());
        }
        self.links[index] = Link { older: self.newest, newer: None };
        match self.newest {
            Some(newest) => self.links[newest].newer = Some(index),
            None => self.oldest = Some(index),
        }
        self.newest = Some(index);
        self.length += 1;
    }

    /// Leaves. It must be in the list.
    pub(super) fn leave(&mut self, index: usize) {
        let Link { older, newer } = self.links[index];
        match older {
            Some(older) => self.links[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.links[newer].older = older,
            None => self.newest = older,
        }
        self.length -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Lru;

    proptest! {
        #[test]
        fn it_is_a_list_without_its_cost(steps in prop::collection::vec(0_usize..12, 0..200)) {
            let (mut lru, mut list) = (Lru::default(), Vec::new());
            for index in steps {
                if let Some(at) = list.iter().position(|other| *other == index) {
                    list.remove(at);
                    lru.leave(index);
                } else {
                    list.push(index);
                    lru.join(index);
                }
                prop_assert_eq!(lru.iter().collect::<Vec<_>>(), list.clone());
                prop_assert_eq!((lru.len(), lru.oldest()), (list.len(), list.first().copied()));
            }
        }
    }
}
