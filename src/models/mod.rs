//! Models at rest: the registry of their versions.

pub mod registry;

pub use registry::Registry;
