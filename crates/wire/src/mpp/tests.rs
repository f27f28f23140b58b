//! Vectors of the scheme.
