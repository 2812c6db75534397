use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::manifest::FORMAT;
use super::*;

fn line(number: u64, parts: Vec<Part>) -> Manifest {
    Manifest {
        format: FORMAT,
        pipeline: "p".into(),
        plan: "plan".into(),
        places: "places".into(),
        build: "0".into(),
        line: number,
        round: number,
        before: 0,
        workers: 1,
        parts,
    }
}

fn path(folder: &TempDir, key: &Key) -> PathBuf {
    folder.path().join(key.as_ref())
}

#[test]
fn what_was_kept_is_found() {
    let folder = TempDir::new().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let parts = vec![store.put("a", b"alpha").unwrap(), store.put("b", b"").unwrap()];
    store.commit(&line(3, parts)).unwrap();
    let again = Store::local(folder.path()).unwrap();
    let found = again.line(again.lines().unwrap()[0]).unwrap();
    let contents = again.get(&found.parts).unwrap();
    assert_eq!(contents, [b"alpha".to_vec(), Vec::new()]);
}

#[test]
fn a_line_is_made_once() {
    let folder = TempDir::new().unwrap();
    let store = Store::local(folder.path()).unwrap();
    store.commit(&line(1, Vec::new())).unwrap();
    let error = store.commit(&line(1, Vec::new())).unwrap_err();
    assert!(error.help.is_some_and(|help| help.contains("another run")));
}

#[test]
fn damage_is_told_by_name() {
    let folder = TempDir::new().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let part = store.put("mill", &[7; 1_000]).unwrap();
    store.commit(&line(1, vec![part.clone()])).unwrap();
    let file = path(&folder, &part_key(&part.hash));
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let said = Error::from(store.get([&part]).unwrap_err()).message;
    assert!(said.contains("`mill`") && said.contains("damaged"), "{said}");
    fs::write(path(&folder, &line_key(1)), b"{\"line\": {\"form").unwrap();
    let said = Error::from(store.line(1).unwrap_err()).message;
    assert!(said.contains("00001.json cannot be used"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever lines share and whatever is damaged: no part of a retained line goes, and nothing else
    /// stays.
    #[test]
    fn clearing_keeps_what_retained_lines_name(
        lines in prop::collection::vec((prop::collection::vec(0..6u8, 0..5), 0..8u8), 1..8),
        stray in prop::collection::vec(6..9u8, 0..3),
        keep in 1..4usize,
    ) {
        let folder = TempDir::new().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let mut whole = Vec::new();
        for (number, (contents, damaged)) in (1..).zip(&lines) {
            let parts: Vec<Part> =
                contents.iter().map(|c| store.put(&c.to_string(), &[*c; 9]).unwrap()).collect();
            store.commit(&line(number, parts.clone())).unwrap();
            if *damaged == 0 {
                fs::write(path(&folder, &line_key(number)), b"{").unwrap();
            } else {
                whole.push((number, parts));
            }
        }
        for content in &stray {
            store.put("stray", &[*content; 9]).unwrap();
        }
        let oldest = store.clear(keep).unwrap();
        let retained = &whole[whole.len().saturating_sub(keep)..];
        prop_assert_eq!(oldest, retained.first().map_or(0, |(number, _)| *number));
        let mut named = BTreeSet::new();
        for (number, parts) in retained {
            let found = store.line(*number).unwrap();
            prop_assert_eq!(&found.parts, parts);
            for part in parts {
                let content = vec![part.name.parse::<u8>().unwrap(); 9];
                prop_assert_eq!(store.get([part]).unwrap(), [content]);
                named.insert(part.hash.clone());
            }
        }
        if !retained.is_empty() {
            let left: BTreeSet<String> = store
                .list("parts").unwrap().iter().map(|k| k.filename().unwrap().to_string()).collect();
            prop_assert_eq!(left, named);
            prop_assert!(store.lines().unwrap().iter().all(|number| *number >= oldest));
        }
        store.clear_all().unwrap();
        prop_assert!(store.lines().unwrap().is_empty() && store.list("parts").unwrap().is_empty());
    }
}
