//! `weir schema`: the JSON schema of the configuration, for editors.

use std::io::{self, Write};

use super::Exit;
use crate::config;

/// Writes the JSON schema to `out`; the exit code.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(out: &mut dyn Write) -> io::Result<Exit> {
    out.write_all(config::schema::text().as_bytes())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    #[test]
    fn schema_is_written_as_it_is_shipped() {
        let mut out = Vec::new();
        assert_eq!(super::run(&mut out).unwrap(), super::Exit::Ok);
        assert_eq!(String::from_utf8(out).unwrap(), include_str!("../../config/weir.schema.json"));
    }
}
