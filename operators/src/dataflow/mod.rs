//! How timely hosts the arithmetic: the only folder of this package that knows timely.
//!
//! ```text
//! rows --+-> scatter --requests--> windows (by key) --answers--> gather (by row) --+-> features
//!        |      +--------------------------- labels -------------------------------+
//!        +------------------------------ rows -------------------^
//! ```
//!
//! Timely's timestamp is a [`Round`]: in `final` mode the number of a bundle of ticks, in `at_once`
//! mode the running number of an epoch. Event times and watermarks travel as data. Every operator
//! here keeps what belongs to a round until the frontier has passed it, then takes the round whole
//! and in (event time, id) order: so neither the cut into messages nor the number of workers shows.

mod gather;

mod line;

mod message;

mod program;

mod scatter;

mod shelf;

mod windows;

pub use gather::{answer, gather};
pub use line::{Asker, Begin, Keep, Lines, Saved, restored};
pub use message::{
    Answers, Decide, Failed, Features, HeldRows, Kind, Labels, Reached, Requests, Round, Rows,
    Site, Wire, Wires,
};
pub use program::{
    CallProgram, FeatureProgram, GroupProgram, Kept, LabelProgram, Program, StreamProgram,
};
pub use scatter::scatter;
pub use shelf::{Shelf, Unseen};
pub use windows::windows;
