//! `weir assign`: the variant of each unit, for pipelines and for checking. Lines in, lines out, in the same order.
//!
//! It calls what the proxy calls and decides nothing itself. A unit that is given bare is assigned as a request that
//! carries it where the first source of the key reads it, and has nothing else. What is no unit is told on the standard
//! error and has no line; the rest goes on, and the exit code says that something was wrong.
//!
//! Reading order: this file, [`lines`] (what a line is), [`attributes`] (what it says of a request). For users:
//! `docs/commands.md`.

mod attributes;
mod lines;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use self::attributes::Attributes;
use self::lines::{LONGEST, Line, Lines};
use super::args::{AssignArgs, Input, Output};
use super::{Exit, configuration};
use crate::logic::condition::Source;
use crate::logic::split::{Assignment, Draw, Split, assign, assign_unit};
use crate::proxy::Failure;
use crate::proxy::handle::seconds_now;
use crate::types::{ByteSize, Position, UnitKey};

/// How much is written at once, in bytes.
const BUFFER: usize = 64 << 10;

/// How many lines that are no units are told one by one; the rest are counted.
const COMPLAINTS: usize = 20;

/// Assigns every unit of the arguments or of `input`; writes results to `out`, complaints to `err`.
///
/// # Errors
/// When the configuration is refused or has no such split, or something cannot be read or written.
pub fn run(
    args: &AssignArgs,
    input: impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> anyhow::Result<Exit> {
    let config = configuration::load(&args.config)?;
    let split = &configuration::split(&config, &args.split)?.split;
    let mut desk = Desk { split, input: args.input, output: args.output, bare: Attributes::default() };
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let mut complaints = Complaints { err, told: 0, count: 0 };
    let mut lines = Lines::new(input);
    let stdin = [OsStr::new("-").to_owned()];
    let units = if args.units.is_empty() { &stdin } else { &*args.units };
    for (number, unit) in (1..).zip(units) {
        if *unit != *"-" {
            let done = desk.serve(unit.as_bytes(), &mut out)?;
            complaints.tell(done, "argument", number)?;
            continue;
        }
        let mut number = 0_u64;
        while let Some(line) = lines.next(&mut out)? {
            number += 1;
            let done = match line {
                Line::Whole(line) => desk.serve(line, &mut out)?,
                Line::TooLong => {
                    let limit = ByteSize(LONGEST as u64);
                    Err(format!("it is longer than {limit}, which no unit is"))
                }
            };
            complaints.tell(done, "line", number)?;
        }
    }
    out.flush()?;
    complaints.finish()
}

/// Who serves one line after the other.
struct Desk<'a> {
    split: &'a Split,
    input: Input,
    output: Output,
    /// The request that a bare unit is carried by.
    bare: Attributes,
}

impl Desk<'_> {
    /// Assigns the unit of one line and writes what it gets; a complaint where there is no unit.
    fn serve(&mut self, line: &[u8], out: &mut impl Write) -> io::Result<Result<(), String>> {
        let outcome = match self.input {
            Input::Lines => self.bare_unit(line),
            Input::Json => self.request(line),
        };
        match outcome {
            Ok(assignment) => self.write(&assignment, out),
            Err(complaint) => Ok(Err(complaint)),
        }
    }

    fn bare_unit(&mut self, unit: &[u8]) -> Result<Assignment, String> {
        let key = UnitKey::new(unit).map_err(|error| error.to_string())?;
        if let Some(source) = self.split.key.first() {
            if !self.bare.carries_again() {
                self.bare = Attributes::default();
            }
            self.bare.carry(source, unit);
        }
        // There is a key, so nothing is left to chance, and no override, so nothing expires.
        Ok(assign_unit(self.split, key, &self.bare, Draw { random: 0, now: 0 }))
    }

    fn request(&self, line: &[u8]) -> Result<Assignment, String> {
        let (mut attributes, unit) = attributes::read(line)?;
        let now = if self.split.force.is_some() { seconds_now() } else { 0 };
        let draw = Draw { random: fastrand::u128(..), now };
        if let Some(unit) = unit {
            if let Some(source) = self.split.key.first() {
                attributes.carry(source, &unit);
            }
            let key = UnitKey::new(unit).map_err(|error| error.to_string())?;
            return Ok(assign_unit(self.split, key, &attributes, draw));
        }
        let assignment = assign(self.split, &attributes, draw).map_err(|refusal| {
            format!("the proxy would refuse it with 400 ({}): {refusal}", Failure::from(&refusal).code())
        })?;
        let source = assignment.key_source.and_then(|index| self.split.key.get(index));
        if let Some(Source::ClientIp { .. }) = source
            && !attributes.has_client_ip()
        {
            return Err("its unit is the client's address, and it has no `client_ip`".to_owned());
        }
        Ok(assignment)
    }

    fn write(&self, assignment: &Assignment, out: &mut impl Write) -> io::Result<Result<(), String>> {
        let row = Row::new(self.split, assignment);
        match self.output {
            Output::Text => {
                let unit = row.key.unwrap_or_default();
                if unit.contains(&b'\n') {
                    return Ok(Err("its unit has a line break, which needs `--output json`".to_owned()));
                }
                out.write_all(unit)?;
                write!(out, "\t{}\t", row.variant.unwrap_or_default())?;
                match row.position {
                    Some(position) => writeln!(out, "{position}")?,
                    None => writeln!(out)?,
                }
            }
            Output::Json => {
                serde_json::to_writer(&mut *out, &row)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(Ok(()))
    }
}

/// What is told of a unit.
#[derive(Serialize)]
struct Row<'a> {
    /// The key as text; bytes that are none are replaced, and then `unit_base64` has them.
    unit: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_base64: Option<String>,
    /// `None` where chance decides, anew for each request.
    variant: Option<&'a str>,
    /// As text, for many JSON readers keep 53 bits of a number only.
    #[serde(serialize_with = "as_text")]
    position: Option<Position>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip)]
    key: Option<&'a [u8]>,
}

impl<'a> Row<'a> {
    fn new(split: &'a Split, assignment: &'a Assignment) -> Self {
        // A minted key is another one the next time.
        let key = assignment.key.as_ref().filter(|_| !assignment.minted).map(UnitKey::as_bytes);
        let by_chance = key.is_none() && assignment.position.is_some();
        let variant = split.variants.get(assignment.variant).filter(|_| !by_chance);
        let position = key.map(|key| assignment.position.unwrap_or_else(|| split.position(key)));
        let unit = key.map(String::from_utf8_lossy);
        let unit_base64 = key.filter(|key| std::str::from_utf8(key).is_err()).map(|key| STANDARD.encode(key));
        let rule = assignment.rule.and_then(|index| split.rules.get(index)).map(|rule| rule.name.as_str());
        Self {
            unit,
            unit_base64,
            variant: variant.map(|variant| variant.name.as_str()),
            position,
            reason: assignment.reason.as_str(),
            rule,
            key,
        }
    }
}

#[expect(clippy::ref_option, reason = "serde hands fields over by reference")]
fn as_text<S: Serializer>(value: &Option<impl fmt::Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// What is told of lines that are no units.
struct Complaints<'a, W> {
    err: &'a mut W,
    told: usize,
    count: u64,
}

impl<W: Write> Complaints<'_, W> {
    fn tell(&mut self, done: Result<(), String>, what: &str, number: u64) -> io::Result<()> {
        let Err(complaint) = done else { return Ok(()) };
        self.count += 1;
        if self.told == COMPLAINTS {
            return Ok(());
        }
        self.told += 1;
        writeln!(self.err, "weir: {what} {number}: {complaint}")
    }

    /// The exit code; tells what was counted only.
    fn finish(self) -> anyhow::Result<Exit> {
        let rest = self.count - self.told as u64;
        if rest > 0 {
            writeln!(self.err, "weir: and {rest} more")?;
        }
        Ok(if self.count == 0 { Exit::Ok } else { Exit::Failed })
    }
}
