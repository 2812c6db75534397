//! How many files and connections the system lets this program have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What all but connections may have open: files of the journal, of models, of sinks, and other sockets.
const RESERVE: u64 = 256;

/// Asks for as many as the system allows, most shells giving a thousand by default, and tells how many of them
/// connections may take, `wanted` at most, so that whoever opens connections and sends nothing never keeps the
/// pipeline from opening a file.
pub(super) fn for_connections(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let allowed = if raised { maximum } else { current };
    let spare = allowed.map_or(u64::MAX, spare);
    let connections = wanted.min(usize::try_from(spare).unwrap_or(usize::MAX));
    if connections < wanted {
        tracing::info!(connections, "the limit of open files (ulimit -n) bounds connections");
    }
    connections
}

/// What is left of a limit for connections.
fn spare(limit: u64) -> u64 {
    limit.saturating_sub(RESERVE).max(limit / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_everything_else() {
        assert_eq!([0, 64, 256, 1_024, 1 << 20].map(spare), [1, 16, 64, 768, (1 << 20) - 256]);
        assert!(for_connections(8) <= 8);
    }
}
