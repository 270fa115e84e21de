//! The payloads of `tests/corpus`: each gives the verdict that its file tells, and the inputs that the fuzzer found pass
//! the checks that it made.

use std::fs;
use std::path::{Path, PathBuf};

use http::Method;

use super::reading::End;
use super::{configuration, oracle, parsers, reading};
use crate::wire::HeadError;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[expect(clippy::disallowed_methods, reason = "a test reads its payloads")]
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The bytes that a line stands for.
fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, true) => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            (byte, false) => byte,
        });
    }
    bytes
}

#[test]
fn payload_gives_the_verdict_that_its_file_tells() {
    for file in files("http1") {
        let name = file.file_name().unwrap().display().to_string();
        let text = text(&file);
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("# "), "{name}: the first line says what it is");
        let expected = lines.next().unwrap();
        let bytes = lines.map(unescaped).collect::<Vec<_>>().concat();
        let (requests, end) = reading::requests(&bytes);
        let end = match end {
            End::Clean => "clean",
            End::Waits => "waits",
            End::Head(HeadError::Malformed) => "head",
            End::Head(HeadError::Target) => "target",
            End::Head(HeadError::Version) => "version",
            End::Head(HeadError::TooManyFields) => "fields",
            End::Framing => "framing",
            End::Body => "body",
        };
        assert_eq!(format!("{} {end}", requests.len()), expected, "{name}");
        oracle::check_requests(&bytes);
        reading::check_request_cuts(&bytes);
        reading::check_request_is_kept(&bytes);
    }
}

#[test]
fn inputs_that_the_fuzzer_found_pass_its_checks() {
    let targets = files("../fuzz/fuzz_targets");
    let stems =
        |files: &[PathBuf]| files.iter().map(|file| file.file_stem().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(stems(&targets), stems(&files("fuzz")), "each target has a corpus, and each corpus a target");
    for file in files("fuzz") {
        let target = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = text(&file);
        let inputs: Vec<_> = text.lines().map(unescaped).collect();
        assert!(inputs.len() > 20, "{target} has only {} inputs", inputs.len());
        for input in &inputs {
            match target.as_str() {
                "http1_request" => {
                    oracle::check_requests(input);
                    reading::check_request_is_kept(input);
                }
                "http1_split" => {
                    reading::check_request_cuts(input);
                    reading::check_response_cuts(input);
                }
                "http1_response" => {
                    oracle::check_response(input, &Method::GET);
                    oracle::check_response(input, &Method::HEAD);
                    reading::check_response_is_kept(input);
                }
                "chunked" => reading::check_chunks_with_cuts(input),
                "proxy_header" => reading::check_proxy_header(input),
                "target" => parsers::check_target(input),
                "sources" => parsers::check_sources(input),
                "forwarded" => parsers::check_forwarded(input),
                "token" => parsers::check_token(input),
                "frames" => parsers::check_frames(input),
                "certificate" => parsers::check_certificate(input),
                "configuration" => configuration::check_configuration(input),
                other => panic!("{other} is no target"),
            }
        }
    }
}
