//! From a plan to what runs. Today: the check, which types every expression and lets every component
//! read its keys, and gives the program that `operators` carry out.

pub mod check;
pub mod hand_over;
pub mod ingest;
pub mod outputs;
pub mod pace;
pub mod reader;
pub mod render;
pub mod run;
pub mod watch;
