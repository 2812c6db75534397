//! Which way a mean must move to be an alarm: a loss that falls wakes nobody.

use tidemill_config::section::Params;

/// The key `direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
    Both,
}

impl Direction {
    /// Whether a move of the mean by so much is an alarm.
    pub(super) fn is_alarm(self, moved: f64) -> bool {
        (moved > 0.0 && self.up()) || (moved < 0.0 && self.down())
    }

    pub(super) fn up(self) -> bool {
        self != Direction::Down
    }

    pub(super) fn down(self) -> bool {
        self != Direction::Up
    }
}

/// Reads the key.
pub(super) fn read(keys: &mut Params<'_>, default: &'static str) -> Direction {
    match keys.choice("direction", default, &["both", "up", "down"]) {
        "up" => Direction::Up,
        "down" => Direction::Down,
        _ => Direction::Both,
    }
}
