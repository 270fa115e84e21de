//! `wire`, and the checks that the plain tests make of it. `make fuzz` at the root runs the targets.

#[path = "../../wire/grammar.rs"]
pub mod grammar;
#[path = "../../wire/oracle.rs"]
pub mod oracle;
#[path = "../../wire/reading.rs"]
pub mod reading;
#[path = "../../../src/wire/mod.rs"]
pub mod wire;
