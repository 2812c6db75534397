//! Checkpoints: at a *line*, the boundary of a round, the state of every part is kept, so that a run
//! that was cut off goes on from there.
//!
//! What belongs to a line is in [`manifest`], the bytes of a part in [`section`]; both are pure, as is [`migration`], which reads what former builds wrote.
//! [`store`] keeps them, in a folder or a [`bucket`], [`line`] is where the parts of a run meet, [`keeper`] the thread that writes (through a [`depot`]; [`member`] in the other processes of a run), and
//! [`restore`] what a restart reads; [`epochs`] is the log that `at_once` needs besides. [`points`] are the moments at which the crash kit kills.

pub mod bucket;
pub mod depot;
pub mod epochs;
pub mod keeper;
pub mod line;
pub mod manifest;
pub mod member;
pub mod migration;
pub mod points;
pub mod restore;
pub mod section;
pub mod store;
