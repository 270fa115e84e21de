//! Tests of the whole: vectors, properties, examples.
