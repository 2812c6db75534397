//! Models at rest: the registry of their versions, and the orders of people about them.

pub mod history;
pub mod orders;
pub mod people;
pub mod registry;
pub mod report;

pub use registry::Registry;
