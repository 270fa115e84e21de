//! What is refused because too much comes.

mod rate;
mod upstream;
