//! Built by `rustc` alone, so that it needs nothing of the fuzzer: `corpus unpack FILE FOLDER` writes each line of a packed corpus into a file of its own; `corpus pack FOLDER FILE`
//! puts the short ones of a folder together again.

use std::error::Error;
use std::fs;
use std::path::Path;

/// Longer inputs are left out: what they reach, shorter ones mostly reach too.
const MAX_INPUT: usize = 512;

/// The bytes that a line stands for: what `escape_ascii` wrote.
fn unescaped(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

fn unpack(file: &str, folder: &str) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    for (index, line) in fs::read_to_string(file)?.lines().enumerate() {
        let bytes = unescaped(line).ok_or_else(|| format!("{file}:{}: not escaped", index + 1))?;
        fs::write(Path::new(folder).join(format!("packed-{index}")), bytes)?;
    }
    Ok(())
}

fn pack(folder: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)? {
        let bytes = fs::read(entry?.path())?;
        if !bytes.is_empty() && bytes.len() <= MAX_INPUT {
            lines.push(bytes.escape_ascii().to_string());
        }
    }
    lines.sort_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other)));
    lines.dedup();
    fs::write(file, lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", file, folder] => unpack(file, folder),
        ["pack", folder, file] => pack(folder, file),
        _ => Err("usage: corpus unpack FILE FOLDER | corpus pack FOLDER FILE".into()),
    }
}
