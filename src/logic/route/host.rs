//! Host patterns: `shop.example.com`, `*.example.com`, either with a port.

/// A host that a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    /// Lower case; for a wildcard what follows `*.`.
    pub name: String,
    /// Whether one or more labels must stand before `name`.
    pub wildcard: bool,
    /// The port the request's authority must name; `None` is any or none.
    pub port: Option<u16>,
}

impl HostPattern {
    /// Parses `shop.example.com`, `*.example.com`, `shop.example.com:8080`, `[::1]:8080`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what may be written.
    pub fn parse(_text: &str) -> Result<Self, String> {
        unimplemented!()
    }
}
