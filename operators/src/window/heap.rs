//! What does not fit into a word of a row: texts, each once and counted; lists, each as it came; and ids
//! that are no numbers.

use std::sync::Arc;

use hashbrown::HashMap;
use tidemill_types::{Id, Value};
use xxhash_rust::xxh3::Xxh3Builder;

use crate::column::Cell;

/// Texts, lists and ids of all keys of a store, by the words that stand for them.
#[derive(Default)]
pub(super) struct Heap {
    texts: Slab<(Arc<str>, u64)>,
    words: HashMap<Arc<str>, u64, Xxh3Builder>,
    lists: Slab<Arc<[Value]>>,
    ids: Slab<Id>,
    bytes: usize,
}

impl Heap {
    /// Whether rows may have something to release.
    #[inline]
    pub(super) fn holds_anything(&self) -> bool {
        self.texts.len + self.lists.len + self.ids.len > 0
    }

    /// The text that a word stands for.
    pub(super) fn text(&self, word: u64) -> Value {
        self.texts.get(word).map_or(Value::Null, |(text, _)| Value::Text(Arc::clone(text)))
    }

    /// The same where it stands.
    pub(super) fn cell(&self, word: u64) -> Cell<'_> {
        self.texts.get(word).map_or(Cell::Null, |(text, _)| Cell::Text(text))
    }

    /// The word for a text, which it then holds once more.
    pub(super) fn hold_text(&mut self, text: &str) -> u64 {
        if let Some(word) = self.words.get(text) {
            if let Some((_, holders)) = self.texts.get_mut(*word) {
                *holders += 1;
            }
            return *word;
        }
        let text: Arc<str> = text.into();
        self.bytes += text.len();
        let word = self.texts.put((Arc::clone(&text), 1));
        self.words.insert(text, word);
        word
    }

    pub(super) fn release_text(&mut self, word: u64) {
        let Some((_, holders)) = self.texts.get_mut(word) else { return };
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        if let Some((text, _)) = self.texts.take(word) {
            self.bytes -= text.len();
            self.words.remove(&text);
            if self.words.capacity() > 4 * self.words.len() + 64 {
                self.words.shrink_to(2 * self.words.len());
            }
        }
    }

    /// The list that a word stands for.
    pub(super) fn list(&self, word: u64) -> Value {
        self.list_cell(word).to_value()
    }

    /// The same where it stands.
    pub(super) fn list_cell(&self, word: u64) -> Cell<'_> {
        self.lists.get(word).map_or(Cell::Null, Cell::List)
    }

    /// The word for a list. Lists are hardly ever equal: each is held on its own.
    pub(super) fn hold_list(&mut self, items: &Arc<[Value]>) -> u64 {
        self.bytes += list_bytes(items);
        self.lists.put(Arc::clone(items))
    }

    pub(super) fn release_list(&mut self, word: u64) {
        if let Some(items) = self.lists.take(word) {
            self.bytes -= list_bytes(&items);
        }
    }

    /// The id that a word stands for.
    pub(super) fn id(&self, word: u64) -> &Id {
        static NONE: Id = Id::Int(0);
        self.ids.get(word).unwrap_or(&NONE)
    }

    /// The word for an id.
    pub(super) fn hold_id(&mut self, id: &Id) -> u64 {
        self.bytes += length(id);
        self.ids.put(id.clone())
    }

    pub(super) fn release_id(&mut self, word: u64) {
        if let Some(id) = self.ids.take(word) {
            self.bytes -= length(&id);
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let slabs = self.texts.bytes() + self.lists.bytes() + self.ids.bytes();
        self.bytes + slabs + self.words.allocation_size()
    }
}

/// What the items take, and the texts among them.
fn list_bytes(items: &[Value]) -> usize {
    let texts: usize = items.iter().filter_map(Value::as_str).map(str::len).sum();
    size_of_val(items) + texts
}

fn length(id: &Id) -> usize {
    match id {
        Id::Int(_) => 0,
        Id::Text(text) => text.len(),
        Id::Row(bytes) => bytes.len(),
    }
}

/// Things by the number they got; numbers are used again.
struct Slab<T> {
    things: Vec<Option<T>>,
    free: Vec<u64>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { things: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    fn put(&mut self, thing: T) -> u64 {
        self.len += 1;
        match self.free.pop() {
            Some(word) => {
                self.things[word as usize] = Some(thing);
                word
            }
            None => {
                self.things.push(Some(thing));
                self.things.len() as u64 - 1
            }
        }
    }

    fn take(&mut self, word: u64) -> Option<T> {
        let thing = self.things.get_mut(word as usize)?.take()?;
        self.len -= 1;
        self.free.push(word);
        if self.len == 0 {
            *self = Slab::default();
        }
        Some(thing)
    }

    fn get(&self, word: u64) -> Option<&T> {
        self.things.get(word as usize)?.as_ref()
    }

    fn get_mut(&mut self, word: u64) -> Option<&mut T> {
        self.things.get_mut(word as usize)?.as_mut()
    }

    fn bytes(&self) -> usize {
        self.things.capacity() * size_of::<Option<T>>() + self.free.capacity() * 8
    }
}
