//! From a plan to what runs, in the order of the river: the check gives the compiled program;
//! readers parse on threads of their own; the ingest cuts rounds; the dataflow is rendered and handed
//! over to the mill; results leave by the outputs; a run opens, watches and ends all of it. Whoever has
//! something for an operator rings its bell. Where an earlier one was cut off, `recovery` says where it begins,
//! and `lines` is how the dataflow gives its parts.

pub mod bell;
pub mod check;
pub mod cluster;
pub mod control;
pub mod crew;
mod driver;
pub mod explain;
pub mod feed;
pub mod hand_over;
pub mod ingest;
pub mod lines;
pub mod offsets;
pub mod outputs;
pub mod pace;
pub mod reader;
pub mod recovery;
pub mod render;
pub mod replay;
pub mod rescore;
mod results;
pub mod rows;
pub mod run;
pub mod split;
pub mod watch;
pub mod watermarks;
pub mod workers;
