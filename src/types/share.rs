//! A part of all units, in parts per million.

use std::fmt;

/// A part of all units in parts per million, in `[0, 1_000_000]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(u32);

/// Why a text is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// There is no `%` at the end.
    #[error("a share is a percentage of all units and ends in `%`")]
    NoPercentSign,
    /// What stands before the `%` is no plain decimal number.
    #[error("a share is a plain decimal number followed by `%`")]
    NotANumber,
    /// More than four digits after the point.
    #[error("a share has at most four decimal places (0.0001% is one in a million)")]
    TooFine,
    /// Over 100%.
    #[error("a share is at most 100%")]
    TooLarge,
}

impl Share {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(Self::WHOLE);
    /// The ppm of the whole: `1_000_000`.
    pub const WHOLE: u32 = 1_000_000;

    /// A share of `ppm` parts per million, or `None` above [`Share::WHOLE`].
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm <= Self::WHOLE { Some(Self(ppm)) } else { None }
    }

    /// The share in parts per million, in `[0, 1_000_000]`.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// The share as a part of one, in `[0, 1]`.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// Parses a percentage such as `9%`, `0.5%` or `0.0001%`, exactly: no floating point is involved.
    ///
    /// # Errors
    /// [`ShareError`] for anything but digits, an optional point with one to four digits, and a `%`, up to 100%.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let number = text.trim().strip_suffix('%').ok_or(ShareError::NoPercentSign)?.trim_end();
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(ShareError::NotANumber),
            Some(parts) => parts,
            None => (number, ""),
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(ShareError::NotANumber);
        }
        if fraction.len() > 4 {
            return Err(ShareError::TooFine);
        }
        let whole: u32 = whole.parse().map_err(|_| ShareError::TooLarge)?;
        let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| ShareError::NotANumber)?;
        whole
            .checked_mul(10_000)
            .and_then(|ppm| ppm.checked_add(fraction))
            .and_then(Self::from_ppm)
            .ok_or(ShareError::TooLarge)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        if fraction == 0 {
            return write!(f, "{whole}%");
        }
        let digits = format!("{fraction:04}");
        write!(f, "{whole}.{}%", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentage_is_read_exactly_or_refused() {
        let rows = [
            ("0%", Ok(0)),
            ("1%", Ok(10_000)),
            ("0.0001%", Ok(1)),
            ("33.3333%", Ok(333_333)),
            ("100%", Ok(1_000_000)),
            ("100.0%", Ok(1_000_000)),
            ("5 %", Ok(50_000)),
            ("5", Err(ShareError::NoPercentSign)),
            ("", Err(ShareError::NoPercentSign)),
            ("%", Err(ShareError::NotANumber)),
            ("-1%", Err(ShareError::NotANumber)),
            ("+1%", Err(ShareError::NotANumber)),
            ("1e1%", Err(ShareError::NotANumber)),
            ("NaN%", Err(ShareError::NotANumber)),
            ("1.%", Err(ShareError::NotANumber)),
            (".5%", Err(ShareError::NotANumber)),
            ("0.00001%", Err(ShareError::TooFine)),
            ("100.0001%", Err(ShareError::TooLarge)),
            ("99999999999%", Err(ShareError::TooLarge)),
        ];
        for (text, expected) in rows {
            assert_eq!(Share::parse(text).map(Share::ppm), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn share_printed_is_the_share_read(ppm in 0u32..=Share::WHOLE) {
            let share = Share::from_ppm(ppm).unwrap();
            prop_assert_eq!(Share::parse(&share.to_string()), Ok(share));
        }
    }
}
