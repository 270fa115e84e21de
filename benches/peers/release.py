#!/usr/bin/env python3
"""Builds weir for release with a profile of its own work (`make release`): a tenth less CPU per request.

A first build counts what it does while it serves; a second one is laid out by these counts, so that what every request
runs stands together. The work is that of a proxy at large: bodies of several sizes, few headers and many, with the access
log and without, in the clear and over TLS, HTTP/1.1 and HTTP/2, and handshakes.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import certificates
import tools
from load import Load
from process import raise_file_limit
from weir import Weir

COUNTED = tools.TARGET / "profiling"
PROFILE = COUNTED / "weir.profdata"

# Bytes of the body, headers of the request, requests.
WORK = ((0, 2, 60_000), (128, 8, 120_000), (4_096, 12, 60_000), (65_536, 4, 20_000), (1_048_576, 2, 1_000))


# What else is said over TLS, with how many times fewer requests: HTTP/1.1, HTTP/2, and a connection for each request.
TLS_WORK = (
    (2, {"protocol": "h1"}),
    (2, {"protocol": "h2", "connections": 8, "streams": 8}),
    (20, {"close": True}),
    (20, {"close": True, "resume": True}),
)


def main():
    profdata = merger()
    tools.install_packages(["openssl"])
    shutil.rmtree(COUNTED / "counts", ignore_errors=True)
    counting = build(COUNTED, f"-Cprofile-generate={COUNTED / 'counts'}")
    raise_file_limit()
    cores = sorted(os.sched_getaffinity(0))
    load = Load(tools.load(), cores[-1])
    with load.upstreams() as (_, ports), tempfile.TemporaryDirectory(prefix="weir-release-") as folder:
        for access_log in (False, True):
            with Weir(counting).running(ports, cores[0], access_log) as target:
                for size, headers, count in WORK:
                    load.checked("closed", target.port, bytes=size, headers=headers, count=count)
        files = certificates.made(pathlib.Path(folder))
        with Weir(counting).running(ports, cores[0], certificates=files) as target:
            for fewer, talk in TLS_WORK:
                for size, headers, count in WORK:
                    load.checked("closed", target.port, bytes=size, headers=headers, count=count // fewer,
                                 tls=files.certificate, **talk)
    counts = sorted((COUNTED / "counts").glob("*.profraw"))
    subprocess.run([profdata, "merge", "--output", PROFILE, *counts], check=True)
    # What was laid out by other counts is built anew.
    subprocess.run(["cargo", "clean", "--quiet", "--release", "--package", "weir-proxy", "--target-dir",
                    str(tools.PROFILED.parents[1])], cwd=tools.ROOT, check=False)
    print(build(tools.PROFILED.parents[1], f"-Cprofile-use={PROFILE}"))


def merger():
    """The program that merges the counts; it comes with the toolchain."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True, cwd=tools.ROOT)
    found = list(pathlib.Path(sysroot.stdout.strip()).glob("lib/rustlib/*/bin/llvm-profdata"))
    if not found:
        subprocess.run(["rustup", "component", "add", "llvm-tools"], check=False, cwd=tools.ROOT)
        found = list(pathlib.Path(sysroot.stdout.strip()).glob("lib/rustlib/*/bin/llvm-profdata"))
    return found[0] if found else sys.exit("llvm-profdata is missing; install with: rustup component add llvm-tools")


def build(target, flags):
    """A build with these flags of the compiler, in a target folder of its own."""
    environment = os.environ | {"RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {flags}".strip()}
    command = [*tools.release(tools.ROOT, target), "--bin", "weir"]
    if subprocess.run(command, env=environment, check=False).returncode:
        sys.exit("the build failed, see above")
    return target / "release" / "weir"


if __name__ == "__main__":
    main()
