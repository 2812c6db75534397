//! Clients shared by a source and a sink of one technology.
