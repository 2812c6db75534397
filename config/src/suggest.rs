//! Near misses.

/// The candidate closest to what was written, if any is close enough to be meant.
pub fn suggest<'a>(written: &str, there: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    there
        .into_iter()
        .map(|name| {
            (strsim::damerau_levenshtein(&written.to_lowercase(), &name.to_lowercase()), name)
        })
        .filter(|(distance, name)| *distance <= (written.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The cure for an unknown name: the near miss, or the list.
pub fn cure<'a>(written: &str, there: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match suggest(written, there.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<&str> = there.into_iter().collect();
            match all.is_empty() {
                true => "there is none to choose from: declare it first".to_string(),
                false => format!("choose one of: {}", all.join(", ")),
            }
        }
    }
}
