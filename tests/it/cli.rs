//! The commands as they are typed: the binary itself, what it prints where, and its exit codes.

mod assign;
mod explain;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use weir::logic::split::token::{Key, TokenError, verify};

/// A configuration for most tests: three arms, rules, an override, routes of each kind.
const SHOP: &str = "\
listeners:
  - { name: web, bind: 127.0.0.1:0, trust: [127.0.0.0/8] }
  - { name: open, bind: 127.0.0.1:0 }
  - { name: public, bind: 127.0.0.1:0, trust: [], strict_host: true, underscores: refuse }
  - { name: plain, bind: 127.0.0.1:0, trust: [127.0.0.0/8], underscores: remove }
upstreams:
  blue: { endpoints: [127.0.0.1:1, 127.0.0.1:2] }
  green: { endpoints: [127.0.0.1:3] }
  canary: { endpoints: [127.0.0.1:4], protocol: http2 }
splits:
  checkout:
    key: [header:x-tenant-id, header:x-user-id]
    variants:
      - { name: blue }
      - { name: green, weight: 9% }
      - { name: canary, weight: 1% }
    rules:
      - { name: staff, when: [{ value: header:x-tenant-id, in: [internal] }], variant: canary }
      - { name: free-tier, when: [{ value: header:x-tier, in: [free] }], weights: { canary: 20% } }
    override: { header: x-weir-override, key_file: override.key }
  session:
    key: [cookie:sid]
    missing: cookie
    variants: [{ name: blue }, { name: green, weight: 50% }]
  strict:
    key: [header:x-user-id]
    missing: reject
    variants: [{ name: blue }, { name: green, weight: 50% }]
routes:
  - name: cart
    hosts: [shop.example.com, '*.shop.example.com']
    paths: [/api/*]
    methods: [GET, POST]
    split: checkout
    rewrite: { prefix: / }
  - { name: session, hosts: [shop.example.com], paths: [/session], split: session }
  - { name: strict, hosts: [shop.example.com], paths: [/strict], split: strict }
  - { name: upload, hosts: [shop.example.com], paths: [/upload], upstream: green, max_body: 10B }
  - { name: old, hosts: [shop.example.com], paths: [/old/*], redirect: { path: /new } }
  - name: beta
    hosts: [shop.example.com]
    paths: [/beta]
    when: [{ value: header:x-beta, present: true }]
    upstream: green
    request_headers: { set: { x-weir-override: ours } }
";

/// The keys of `override` in [`SHOP`]: the current one, and the one that is rotated out.
const KEYS: [&str; 2] = ["an example key, not a secret", "an older example key, no secret"];

/// A folder with `weir.yaml` and what it names.
struct Folder(TempDir);

/// What a command did.
#[derive(Debug)]
struct Done {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Done {
    /// What it printed, as text; it must have ended with `code`.
    #[track_caller]
    fn printed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.err);
        String::from_utf8(self.out).unwrap()
    }

    /// The JSON that it printed; it must have ended well and told nothing else.
    #[track_caller]
    fn json(self) -> serde_json::Value {
        assert_eq!((self.code, &*self.err), (0, ""));
        serde_json::from_slice(&self.out).unwrap()
    }
}

impl Folder {
    fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("weir.yaml"), configuration).unwrap();
        std::fs::write(folder.path().join("override.key"), KEYS.join("\n")).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.path()).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `weir` in the folder with these arguments and this standard input.
    fn weir_with(&self, args: &[&str], input: &[u8]) -> Done {
        let mut child = self.command(args).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // A command that does not read its input may be gone.
        let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn weir(&self, args: &[&str]) -> Done {
        self.weir_with(args, b"")
    }
}

#[test]
fn help_and_version_are_answers_and_help_lists_every_command() {
    let folder = Folder::new(SHOP);
    let help = folder.weir(&["--help"]).printed(0);
    for command in ["run", "check", "explain", "assign", "token", "schema", "completions", "demo"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {help}");
        let help = folder.weir(&[command, "--help"]).printed(0);
        assert!(help.contains(&format!("weir {command}")), "{help}");
    }
    assert!(help.contains("64 wrong command line"), "{help}");
    assert_eq!(folder.weir(&["--version"]).printed(0), format!("weir {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_goes_wrong_has_an_exit_code_and_a_sentence() {
    let folder = Folder::new(SHOP);
    std::fs::write(folder.path().join("wrong.yaml"), SHOP.replace("weight: 9%", "weight: 9")).unwrap();
    let explain = |rest: &[&'static str]| [&["explain"], rest].concat();
    let token = |rest: &[&'static str]| [&["token", "-s", "checkout"], rest].concat();
    let rows = [
        (vec![], 64, "Usage: weir"),
        (vec!["serve"], 64, "unrecognized subcommand"),
        (vec!["explain"], 64, "URL"),
        (explain(&["-H", "x-user-id", "http://a/"]), 64, "a header is `name: value`"),
        (explain(&["-H", "x y: 1", "http://a/"]), 64, "is not a header name"),
        (explain(&["--peer", "here", "http://a/"]), 64, "--peer"),
        (explain(&["GE T", "http://a/"]), 64, "is not a method"),
        (explain(&["ftp://a/"]), 64, "`ftp` is not HTTP"),
        (explain(&["-c", "none.yaml", "http://a/"]), 1, "error[file-unreadable]"),
        (explain(&["-c", "wrong.yaml", "http://a/"]), 2, "wrong.yaml:15:32"),
        (explain(&["--listener", "wbe", "http://a/"]), 1, "did you mean `web`? There are `web`, `open`"),
        (vec!["assign", "1"], 64, "--split"),
        (vec!["assign", "-s", "chekout", "1"], 1, "did you mean `checkout`?"),
        (vec!["assign", "-s", "x", "1"], 1, "only `checkout`, `session`, `strict`"),
        (vec!["assign", "-c", "wrong.yaml", "-s", "checkout", "1"], 2, "error[invalid-share]"),
        (token(&[]), 64, "--variant"),
        (token(&["-v", "gren"]), 1, "did you mean `green`?"),
        (token(&["-v", "green", "-e", "8"]), 64, "the unit is missing"),
        (token(&["-v", "green", "-e", "0s"]), 64, "a duration of zero"),
        (token(&["-v", "green", "-u", ""]), 1, "the unit key is empty"),
        (vec!["token", "-s", "strict", "-v", "green"], 1, "has no `override`"),
        (vec!["token", "-c", "wrong.yaml", "-s", "checkout", "-v", "green"], 2, "error[invalid-share]"),
        (vec!["completions", "cmd"], 64, "possible values"),
    ];
    for (args, code, part) in rows {
        let done = folder.weir(&args);
        assert_eq!((done.code, done.out.as_slice()), (code, &b""[..]), "{args:?}: {}", done.err);
        assert!(done.err.contains(part), "{args:?}: {}", done.err);
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    let folder = Folder::new(SHOP);
    for shell in ["bash", "zsh", "fish"] {
        let printed = folder.weir(&["completions", shell]).printed(0);
        assert!(printed.contains("explain") && printed.contains("peer"), "{shell}: {printed}");
    }
}

#[test]
fn token_says_what_was_asked_and_is_signed_with_the_first_key() {
    let folder = Folder::new(SHOP);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (args, unit, lasts) in [
        (&["-v", "canary"][..], "*", Duration::from_hours(1)),
        (&["-v", "canary", "--unit", "ünï 42", "--expires", "8h"], "ünï 42", Duration::from_hours(8)),
    ] {
        let before = now();
        let printed = folder.weir(&[&["token", "-s", "checkout"], args].concat()).printed(0);
        let token = printed.strip_suffix('\n').unwrap();
        let key = |index: usize| [Key::new(KEYS[index].as_bytes()).unwrap()];
        let claim = verify(&key(0), token, now()).unwrap();
        assert_eq!((&*claim.split, &*claim.variant, &*claim.unit), ("checkout", "canary", unit));
        let expected = before + lasts.as_secs()..=now() + lasts.as_secs();
        assert!(expected.contains(&claim.expires), "{claim:?} not in {expected:?}");
        assert_eq!(verify(&key(1), token, now()), Err(TokenError::Signature));
    }
}

/// The page that shows the commands.
const PAGE: &str = include_str!("../../docs/commands.md");

/// The blocks of [`PAGE`] that are fenced as `language`.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let fenced = PAGE.split(&fence).skip(1);
    fenced.map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn example_of_the_docs_then_the_command_prints_what_they_say() {
    let configuration = blocks("yaml");
    assert_eq!(configuration.len(), 1);
    let folder = Folder::new(configuration[0]);
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_weir"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let examples = blocks("console");
    assert!(examples.len() > 8, "{examples:?}");
    for example in examples {
        let commands: Vec<_> = example.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
        let expected: Vec<_> = example.lines().filter(|line| !line.starts_with("$ ")).collect();
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {}", commands.join("\n"))])
            .current_dir(folder.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed, expected.join("\n") + "\n", "{commands:?}");
    }
}
