//! What does not fit into a word of a row: texts, each once and counted; lists and maps, each as it came; and
//! ids that are no numbers.

use std::sync::Arc;

use hashbrown::HashMap;
use tidemill_types::{Id, Value};
use xxhash_rust::xxh3::Xxh3Builder;

use crate::column::Cell;

/// Texts, lists, maps and ids of all keys of a store, by the words that stand for them.
#[derive(Default)]
pub(super) struct Heap {
    texts: Slab<(Arc<str>, u64)>,
    words: HashMap<Arc<str>, u64, Xxh3Builder>,
    nested: Slab<Value>,
    ids: Slab<Id>,
    bytes: usize,
}

impl Heap {
    /// Whether rows may have something to release.
    #[inline]
    pub(super) fn holds_anything(&self) -> bool {
        self.texts.len + self.nested.len + self.ids.len > 0
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

    /// The list or the map that a word stands for.
    pub(super) fn nested(&self, word: u64) -> Value {
        self.nested.get(word).cloned().unwrap_or_default()
    }

    /// The same where it stands.
    pub(super) fn nested_cell(&self, word: u64) -> Cell<'_> {
        self.nested.get(word).map_or(Cell::Null, Cell::from)
    }

    /// The word for a list or a map. Such are hardly ever equal: each is held on its own.
    pub(super) fn hold_nested(&mut self, value: Value) -> u64 {
        self.bytes += nested_bytes(&value);
        self.nested.put(value)
    }

    pub(super) fn release_nested(&mut self, word: u64) {
        if let Some(value) = self.nested.take(word) {
            self.bytes -= nested_bytes(&value);
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
        let slabs = self.texts.bytes() + self.nested.bytes() + self.ids.bytes();
        self.bytes + slabs + self.words.allocation_size()
    }
}

/// What the items take, and the texts among them. Maps that came together share the texts of their keys; they are
/// counted for each.
fn nested_bytes(value: &Value) -> usize {
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    match value {
        Value::List(items) => size_of_val(&**items) + items.iter().map(text).sum::<usize>(),
        Value::Map(entries) => {
            let texts = entries.iter().map(|(key, value)| key.len() + text(value));
            size_of_val(&**entries) + texts.sum::<usize>()
        }
        _ => 0,
    }
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
