//! Prequential evaluation.
