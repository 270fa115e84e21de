//! Which route a request takes, and what becomes of it on the way.

mod changes;
mod limits;
mod lookup;
mod redirects;
