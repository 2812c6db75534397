//! x

pub mod journal;
pub mod models;
pub mod observe;
pub mod report;
pub mod serve;
