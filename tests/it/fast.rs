//! HTTP/1 at its edges: answers that overtake their request, clients and endpoints that go at any point, and what is
//! left of an exchange for the next one.

mod early;
mod gone;
mod rules;
mod soak;
