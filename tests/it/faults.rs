//! Faults as they come in operation, and what each costs: processes that are killed, stopped and started again under
//! load, peers that vanish, names that move, a full disk, a file that goes, a clock that jumps. Each test prints its
//! figures; `docs/faults.md` gathers them.
//!
//! What a single answer comes to that is broken in itself is in `failures`.

mod clock;
mod endpoint;
mod files;
mod killed;
mod load;
mod names;
mod paused;
mod sandbox;
mod silent;
mod slow;
mod variant;

use std::time::Duration;

use load::Report;

/// Prints a row of figures: what was lost of what was asked, and how long it took until all was well.
fn tell(fault: &str, report: &Report, recovered: Option<Duration>) {
    let (lost, asked) = (report.lost(), report.count());
    let recovered = recovered.map_or(String::new(), |time| format!(", well again after {time:.2?}"));
    println!("fault: {fault}: {lost} of {asked} requests lost{recovered}; {:?}", report.outcomes());
}
