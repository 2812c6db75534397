//! SQL expressions.
