//! A sorted multiset that is cheap to change anywhere and to read by rank.
//!
//! Sorted leaves of at most 256 items under one row of leaves: a B-tree of two levels. An insert or
//! removal costs two binary searches and a move of at most one leaf; a rank costs a walk over the
//! lengths of the leaves from the nearer end.

const LEAF: usize = 256;

/// Items in order, each as often as it was inserted.
#[derive(Clone, Debug)]
pub struct Leaves<T> {
    /// None is empty.
    leaves: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Leaves<T> {
    fn default() -> Leaves<T> {
        Leaves { leaves: Vec::new(), len: 0 }
    }
}

impl<T: Ord> FromIterator<T> for Leaves<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Leaves<T> {
        let mut leaves = Leaves::default();
        items.into_iter().for_each(|item| leaves.insert(item));
        leaves
    }
}

impl<T: Ord> Leaves<T> {
    /// Adds an item.
    pub fn insert(&mut self, item: T) {
        self.len += 1;
        let at = self.leaf_of(&item).min(self.leaves.len().saturating_sub(1));
        let Some(leaf) = self.leaves.get_mut(at) else {
            self.leaves.push(vec![item]);
            return;
        };
        leaf.insert(leaf.partition_point(|x| *x < item), item);
        if leaf.len() > LEAF {
            let upper = leaf.split_off(LEAF / 2);
            self.leaves.insert(at + 1, upper);
        }
    }

    /// Takes out one of this item; false if there is none.
    pub fn remove(&mut self, item: &T) -> bool {
        let at = self.leaf_of(item);
        let Some(leaf) = self.leaves.get_mut(at) else { return false };
        let place = leaf.partition_point(|x| x < item);
        if leaf.get(place) != Some(item) {
            return false;
        }
        leaf.remove(place);
        self.len -= 1;
        self.balance(at);
        true
    }

    /// The item of rank `k`, from 0.
    pub fn kth(&self, k: usize) -> Option<&T> {
        let mut from_top = self.len.checked_sub(k + 1)?;
        if k < from_top {
            let mut rank = k;
            return self.leaves.iter().find_map(|leaf| {
                let item = leaf.get(rank);
                rank = rank.saturating_sub(leaf.len());
                item
            });
        }
        self.leaves.iter().rev().find_map(|leaf| {
            let item = leaf.len().checked_sub(from_top + 1).map(|place| &leaf[place]);
            from_top = from_top.saturating_sub(leaf.len());
            item
        })
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.leaves.iter().flatten()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap, what items point to not counted.
    pub fn bytes(&self) -> usize {
        let items: usize = self.leaves.iter().map(Vec::capacity).sum();
        items * size_of::<T>() + self.leaves.capacity() * size_of::<Vec<T>>()
    }

    /// The first leaf that may hold the item; the number of leaves if it is greater than all.
    fn leaf_of(&self, item: &T) -> usize {
        self.leaves.partition_point(|leaf| leaf.last().is_some_and(|last| last < item))
    }

    /// Drops an empty leaf; joins a small one with the next, so that their number follows `len`.
    fn balance(&mut self, at: usize) {
        if self.leaves[at].is_empty() {
            self.leaves.remove(at);
        } else if self.leaves[at].len() < LEAF / 4
            && self.leaves.get(at + 1).is_some_and(|next| next.len() < LEAF / 2)
        {
            let next = self.leaves.remove(at + 1);
            self.leaves[at].extend(next);
        }
    }
}
