//! What a user may declare: a pipeline file becomes a [`plan::Plan`], or a list of
//! [`diagnostic::Diagnostic`]s that show file, line, reason and cure.

pub mod diagnostic;

pub mod section;

pub mod plan;
