//! What the components share when they read their keys.

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::At;
use tidemill_types::Error;

/// Names of UTC that `timezone` may hold.
const UTC: [&str; 6] = ["UTC", "utc", "Etc/UTC", "Z", "+00:00", "GMT"];

/// The errors of a check as one error, for an `open` whose plan was never checked.
pub(crate) fn error(found: Vec<Diagnostic>) -> Error {
    let messages: Vec<_> = found.iter().map(|d| format!("{}: {}", d.message, d.reason)).collect();
    let error = Error::user(messages.join("; "));
    match found.into_iter().map(|d| d.help).find(|help| !help.is_empty()) {
        Some(help) => error.help(help),
        None => error,
    }
}

/// What was read; what was wrong joins `errors`, so that all of it is said at once.
pub(crate) fn take<T>(read: Result<T, Vec<Diagnostic>>, errors: &mut Vec<Diagnostic>) -> Option<T> {
    read.map_err(|found| errors.extend(found)).ok()
}

/// Refuses every time zone but UTC: naive times are read as UTC, and another rule of reading them
/// would change results silently.
pub(crate) fn timezone(zone: &At<String>) -> Result<(), Diagnostic> {
    if UTC.contains(&zone.value.as_str()) {
        return Ok(());
    }
    Err(Diagnostic::new(
        &zone.span,
        format!("time zone `{}` cannot be read", zone.value),
        "times without an offset are read as UTC only",
        "write the offset into the data (2013-01-01T05:00:00-05:00), or convert to UTC and leave \
         `timezone` out",
    ))
}

/// The known name nearest to what was written, where one is near; case counts for nothing.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&written, &name.to_lowercase());
    known
        .into_iter()
        .map(|name| (distance(name), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3 && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}
