//! What may be typed. The help texts here are the reference of the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue};

use crate::types::quantity::parse_duration;

/// An L7 traffic-splitting reverse proxy: the same unit, the same variant, on every replica.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 fine, 1 failed, 2 refused by a check, 64 wrong command line.")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Proxy. SIGHUP reads the files again, SIGUSR2 puts a new process in its place, SIGTERM finishes what is in flight and
    /// ends, a second SIGTERM ends at once
    Run(RunArgs),
    /// Put a new process in the place of a running proxy, without a lost connection, and tell what it came to
    Upgrade(UpgradeArgs),
    /// Check configuration files: one line, or every error with its place
    Check(CheckArgs),
    /// Tell how a request would be routed and which variant it would get, and why
    Explain(ExplainArgs),
    /// Tell the variant of each unit: one unit a line in, one line a unit out
    Assign(AssignArgs),
    /// Sign an override token
    Token(TokenArgs),
    /// Print the JSON schema of the configuration
    Schema,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Show it: three small upstreams, a proxy, a load, and a live view; with a file to edit
    Demo(DemoArgs),
}

/// Arguments of `weir run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration: a file, or a folder of `*.yaml`
    #[arg(short, long, value_name = "PATH", default_value = "weir.yaml")]
    pub config: PathBuf,
    /// How the log on the standard error looks. Its level comes from `WEIR_LOG` (error, warn, info, debug)
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Write the process's id to this file once it serves; a process that takes over writes its own
    #[arg(long, value_name = "PATH")]
    pub pid_file: Option<PathBuf>,
    /// How long a new process may take until it serves, at an upgrade
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub upgrade_timeout: Duration,
}

/// Arguments of `weir upgrade`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct UpgradeArgs {
    /// The id of the running process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// The file that has the id of the running process
    #[arg(long, value_name = "PATH")]
    pub pid_file: Option<PathBuf>,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How a result looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Arguments of `weir check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configurations: files, or folders of `*.yaml`
    #[arg(value_name = "FILE", default_value = "weir.yaml")]
    pub files: Vec<PathBuf>,
    /// Print the configuration with every default
    #[arg(long)]
    pub effective: bool,
    /// How the result looks
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of `weir explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The configuration: a file, or a folder of `*.yaml`
    #[arg(short, long, value_name = "PATH", default_value = "weir.yaml")]
    pub config: PathBuf,
    /// A header of the request, as `name: value`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Send the whole URL as the target, on a plain connection, as clients do to a forward proxy
    #[arg(long)]
    pub absolute: bool,
    /// Who is connected
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub peer: std::net::IpAddr,
    /// The certificate (PEM) that the client has shown, taken to be verified: for `tls:san`, `tls:cn`, `tls:fingerprint`
    #[arg(long, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// The listener that the request comes in by; the first of the file by default
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// How the result looks
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// The method and the URL, such as `GET http://shop.example.com/cart`. Without a method it is GET. The host may
    /// come as a header instead: `-H 'host: shop.example.com' /cart`
    #[arg(value_name = "[METHOD] URL", required = true, num_args = 1..=2)]
    pub request: Vec<String>,
}

/// Arguments of `weir assign`.
#[derive(Debug, clap::Args)]
pub struct AssignArgs {
    /// The configuration: a file, or a folder of `*.yaml`
    #[arg(short, long, value_name = "PATH", default_value = "weir.yaml")]
    pub config: PathBuf,
    /// The split
    #[arg(short, long, value_name = "NAME")]
    pub split: String,
    /// How a line looks: `unit<TAB>variant<TAB>position`, or a JSON object
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// How a unit is read: as it is, or as a JSON object `{"unit": …, "headers": {…}, …}`
    #[arg(long, value_enum, default_value_t)]
    pub input: Input,
    /// The units; `-` or none reads the standard input, one a line. After `--` they may begin with `-`
    #[arg(value_name = "UNIT")]
    pub units: Vec<OsString>,
}

/// How a unit is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Input {
    /// The unit itself.
    #[default]
    Lines,
    /// A JSON object.
    Json,
}

/// Arguments of `weir token`.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// The configuration: a file, or a folder of `*.yaml`; it names the key file
    #[arg(short, long, value_name = "PATH", default_value = "weir.yaml")]
    pub config: PathBuf,
    /// The split
    #[arg(short, long, value_name = "NAME")]
    pub split: String,
    /// The variant to force
    #[arg(short, long, value_name = "NAME")]
    pub variant: String,
    /// The unit it is for; `*` is everybody
    #[arg(short, long, value_name = "UNIT", default_value = "*")]
    pub unit: String,
    /// How long it is valid, such as `8h`
    #[arg(short, long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub expires: Duration,
}

/// Arguments of `weir completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `weir demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after this time, such as `10s`; without it the demo goes on until `q` or Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// The file that is written, watched, and yours to edit
    #[arg(long, value_name = "PATH", default_value = "weir-demo.yaml")]
    pub config: PathBuf,
    /// Requests a second
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// How many users there are
    #[arg(long, value_name = "NUMBER", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub users: u32,
    /// Print plain lines even on a terminal
    #[arg(long)]
    pub plain: bool,
}

/// A header as it is typed: `name: value`, white space around the value left out.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `name: value`")?;
    let name = name.parse().map_err(|_| format!("{name:?} is not a header name"))?;
    let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes());
    Ok((name, value.map_err(|_| "the value has a character that no header can carry")?))
}

/// A duration of more than nothing, as the configuration writes it.
fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("a duration of zero has no meaning here".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => {
            Err(format!("{error}; write a whole number and `ms`, `s`, `m`, `h` or `d`, as in `8h`"))
        }
    }
}
