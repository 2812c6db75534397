//! Formats: what bytes mean.
