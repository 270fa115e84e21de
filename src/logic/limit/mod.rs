//! How much may come: per unit and time. What counts as a unit, and whose clock it is, is for who asks.
//!
//! Reading order: [`gcra`] (one unit's due time as a number), [`table`] (many units in bounded memory, for all threads); [`adaptive`] (how
//! many at a time, by how long they take).

pub mod adaptive;
pub mod gcra;
pub mod table;

use std::borrow::Cow;

use crate::logic::condition::{Ambiguous, RequestView, Source};

pub use adaptive::{Adaptive, Bounds, Sample};
pub use gcra::{Gcra, Rate};
pub use table::{Table, Verdict};

/// The unit of a request: which source names it (an index), and its value.
pub type Unit<'a> = (usize, Cow<'a, [u8]>);

/// The unit of `request`: the first of the sources `key` that is present and not empty (its index), and
/// its value; `None` where none is.
///
/// # Errors
/// [`Ambiguous`] when the header that names the unit came twice with different values.
pub fn unit<'a, R: RequestView>(key: &[Source], request: &'a R) -> Result<Option<Unit<'a>>, Ambiguous> {
    for (index, source) in key.iter().enumerate() {
        if let Some(value) = source.read(request)? {
            return Ok(Some((index, value)));
        }
    }
    Ok(None)
}
