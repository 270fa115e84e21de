//! Quantities with their unit in the text: durations and sizes; and the generation of a snapshot.

use std::fmt;
use std::time::Duration;

/// Why a text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No unit behind the number.
    #[error("the unit is missing")]
    NoUnit,
    /// The unit is none of those known.
    #[error("the unit is not known")]
    UnknownUnit,
    /// What stands before the unit is no whole number.
    #[error("a whole number is expected before the unit")]
    NotANumber,
    /// No plain decimal number, or one with too many places.
    #[error("a number with up to three decimal places is expected")]
    NotDecimal,
    /// The number is too large.
    #[error("the number is too large")]
    TooLarge,
}

fn number_and_unit(text: &str) -> Result<(u64, &str), QuantityError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(QuantityError::NotANumber);
    }
    let unit = unit.trim_start();
    if unit.starts_with('.') {
        return Err(QuantityError::NotANumber);
    }
    Ok((number.parse().map_err(|_| QuantityError::TooLarge)?, unit))
}

/// Parses a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// [`QuantityError`] when the unit is missing or unknown, or the number is not whole or too large (over 100 years).
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "" => return Err(QuantityError::NoUnit),
        _ => return Err(QuantityError::UnknownUnit),
    };
    let longest = 100 * 365 * 24 * 3600 * 1000;
    match number.checked_mul(factor) {
        Some(milliseconds) if milliseconds <= longest => Ok(Duration::from_millis(milliseconds)),
        _ => Err(QuantityError::TooLarge),
    }
}

/// Parses a decimal number with up to three decimal places, in thousandths, exactly.
///
/// # Errors
/// [`QuantityError`] for anything but digits and an optional point with one to three digits, and for numbers too large.
pub fn parse_thousandths(text: &str) -> Result<u64, QuantityError> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return Err(QuantityError::NotDecimal),
        Some(parts) => parts,
        None => (text, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > 3 {
        return Err(QuantityError::NotDecimal);
    }
    let number = |text: &str| text.parse::<u64>().map_err(|_| QuantityError::TooLarge);
    let (whole, fraction) = (number(whole)?, number(&format!("{fraction:0<3}"))?);
    whole.checked_mul(1000).and_then(|whole| whole.checked_add(fraction)).ok_or(QuantityError::TooLarge)
}

/// A duration as the configuration writes it, in the largest unit that keeps it whole.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if milliseconds >= factor && milliseconds.is_multiple_of(factor) {
            return format!("{}{unit}", milliseconds / factor);
        }
    }
    format!("{milliseconds}ms")
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Parses a size: a whole number and one of `B`, `KiB`, `MiB`, `GiB`, `TiB`; a bare `0` is a size too.
    ///
    /// # Errors
    /// [`QuantityError`] when the unit is missing or unknown, or the number is not whole or too large.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = number_and_unit(text)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            "" if number == 0 => 0,
            "" => return Err(QuantityError::NoUnit),
            _ => return Err(QuantityError::UnknownUnit),
        };
        number.checked_mul(1 << shift).map(Self).ok_or(QuantityError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{}B", self.0) }
    }
}

/// The number of a snapshot; each applied change makes the next one. The first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duration_needs_a_whole_number_and_a_known_unit() {
        let rows = [
            ("250ms", Ok(Duration::from_millis(250))),
            ("1s", Ok(Duration::from_secs(1))),
            ("10m", Ok(Duration::from_mins(10))),
            ("2h", Ok(Duration::from_hours(2))),
            ("1d", Ok(Duration::from_hours(24))),
            ("0s", Ok(Duration::ZERO)),
            ("10", Err(QuantityError::NoUnit)),
            ("10sec", Err(QuantityError::UnknownUnit)),
            ("1.5s", Err(QuantityError::NotANumber)),
            ("-1s", Err(QuantityError::NotANumber)),
            ("s", Err(QuantityError::NotANumber)),
            ("99999999999999999999s", Err(QuantityError::TooLarge)),
            ("999999999d", Err(QuantityError::TooLarge)),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn size_needs_a_whole_number_and_a_known_unit() {
        let rows = [
            ("0", Ok(ByteSize(0))),
            ("64KiB", Ok(ByteSize(65_536))),
            ("1 MiB", Ok(ByteSize(1 << 20))),
            ("12B", Ok(ByteSize(12))),
            ("12", Err(QuantityError::NoUnit)),
            ("64kb", Err(QuantityError::UnknownUnit)),
            ("99999999999TiB", Err(QuantityError::TooLarge)),
        ];
        for (text, expected) in rows {
            assert_eq!(ByteSize::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn thousandths_are_read_exactly() {
        for (text, expected) in [
            ("100", Ok(100_000)),
            ("0.5", Ok(500)),
            ("0.001", Ok(1)),
            ("1.25", Ok(1250)),
            ("0", Ok(0)),
            ("007", Ok(7000)),
            ("1.", Err(QuantityError::NotDecimal)),
            (".5", Err(QuantityError::NotDecimal)),
            ("0.0001", Err(QuantityError::NotDecimal)),
            ("-1", Err(QuantityError::NotDecimal)),
            ("1e3", Err(QuantityError::NotDecimal)),
            ("", Err(QuantityError::NotDecimal)),
            ("99999999999999999999", Err(QuantityError::TooLarge)),
            ("18446744073709551", Ok(18_446_744_073_709_551_000)),
            ("18446744073709552", Err(QuantityError::TooLarge)),
        ] {
            assert_eq!(parse_thousandths(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn quantity_printed_is_the_quantity_read(milliseconds in 0u64..1 << 40, bytes: u64) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            let size = ByteSize(bytes);
            prop_assert_eq!(ByteSize::parse(&size.to_string()), Ok(size));
        }
    }
}
