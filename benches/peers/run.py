#!/usr/bin/env python3
"""weir beside other proxies at the same job: CPU per request and per TLS handshake, memory, latency, reloads.

`make bench-peers` runs everything and writes docs/performance/; it takes about half an hour. For an answer in one:

    python3 benches/peers/run.py --only h1-128 --peers weir,haproxy --rounds 3 --other path/to/another/weir

docs/performance/README.md tells what is measured and how to read it.
"""

import argparse
import fcntl
import json
import os
import pathlib
import platform
import signal
import sys
import tempfile
import time

import certificates
import chart
import report
import tools
from envoy import Envoy
from haproxy import Haproxy, HaproxyLargeBuffers
from job import ABSENT, CASES, UPSTREAMS
from load import Load
from measure import Bench, Result, measured
from nginx import Nginx
from pingora import Pingora
from process import raise_file_limit
from weir import Weir

FIGURES = tools.ROOT / "docs" / "performance"
NAMES = ("weir", "weir-profiled", "nginx", "haproxy", "haproxy-64k", "envoy", "pingora")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = [case.name for case in CASES]
    parser.add_argument("--only", type=listed(cases), metavar="CASE,…", help=", ".join(cases))
    parser.add_argument("--peers", type=listed(NAMES), metavar="NAME,…", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=positive, help="instead of each case's own number")
    parser.add_argument("--count", type=positive, help="requests a round, in the closed loops")
    parser.add_argument("--seconds", type=positive, help="seconds a round, in the open loops")
    parser.add_argument("--binary", type=pathlib.Path, help="this build of weir, instead of a new one")
    parser.add_argument("--other", type=pathlib.Path, help="a second build of weir, measured beside the first")
    parser.add_argument("--foreign", type=float, default=5.0, metavar="PERCENT",
                        help="a round in which others use more of the target's core (thrice that of the load's) is "
                        "discarded (default 5)")
    parser.add_argument("--cores", type=cores, help="the targets' and the load's, as in 0,1")
    parser.add_argument("--out", type=pathlib.Path,
                        help="write peers.json and peers.svg here (a run of everything writes docs/performance)")
    return parser.parse_args()


def listed(known):
    """Reads names with commas between them."""
    def read(text):
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return names
    return read


def positive(text):
    """Reads a number above 0."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return int(text)


def cores(text):
    """Reads two numbers of cores."""
    found = tuple(int(part) for part in text.split(",") if part.isdigit())
    if len(set(found)) != 2 or not set(found) <= os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError(f"{text} is not two of the cores {sorted(os.sched_getaffinity(0))}")
    return found


def two_cores():
    """Two cores that share no execution units, if there are such."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise SystemExit("two cores are needed: one for the target, one for the load and the upstreams")
    path = pathlib.Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    siblings = path.read_text().strip().replace("-", ",").split(",") if path.exists() else []
    return first, next((core for core in others if str(core) not in siblings), others[0])


def alone():
    """Waits until no other run is under way on this machine; two would measure each other."""
    lock = open(pathlib.Path(tempfile.gettempdir()) / f"weir-bench-peers-{os.getuid()}.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another run is under way; waiting for it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    binary, peers = prepared(options)
    program = tools.load()
    chosen = options.cores or two_cores()
    files = raise_file_limit()
    out = options.out or (None if options.only or options.peers or options.other else FIGURES)
    with alone():
        os.sched_setaffinity(0, {chosen[1]})
        load = Load(program, chosen[1])
        with load.upstreams() as (upstream, ports), tempfile.TemporaryDirectory(prefix="weir-peers-tls-") as folder:
            bench = Bench(load, chosen, upstream, ports, certificates.made(pathlib.Path(folder)), options)
            said = {
                "machine": machine(chosen, files), "load_alone": ceiling(bench), "peers": {}, "cases": {},
                "not_measured": ABSENT,
            }
            for peer in peers:
                said["peers"][peer.name] = peer.missing() or {"version": peer.version(), "reloads_by": peer.reloads_by}
            for case in CASES:
                of_none = case.of_weir and options.peers and "weir" not in options.peers
                if (not options.only or case.name in options.only) and not of_none:
                    said["cases"][case.name] = run(case, bench, peers, binary)
                    write(said, out)


def write(said, out):
    """Writes what has been measured so far: a run that is broken off has not been for nothing."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "peers.json").write_text(json.dumps(said, indent=1) + "\n")
        (out / "peers.svg").write_text(chart.drawn(said))


def prepared(options):
    """The build of weir, and all targets, with what they need installed and built."""
    names = options.peers or NAMES
    needed = {"openssl": "openssl", "nginx": "nginx", "haproxy": "haproxy", "haproxy-64k": "haproxy", "pingora": "cmake"}
    tools.install_packages(sorted({package for name, package in needed.items() if name in (*names, "openssl")}))
    os.environ["PATH"] += ":/usr/sbin"
    binary = options.binary or tools.weir()
    made = {
        "weir": lambda: Weir(binary),
        "weir-profiled": lambda: Weir(tools.PROFILED, "weir-profiled"),
        "nginx": Nginx,
        "haproxy": Haproxy,
        "haproxy-64k": HaproxyLargeBuffers,
        "envoy": lambda: Envoy(*tools.envoy()),
        "pingora": lambda: Pingora(*tools.pingora()),
    }
    peers = [made[name]() for name in NAMES if name in names]
    return binary, peers + ([Weir(options.other, "other")] if options.other else [])


def run(case, bench, peers, binary):
    """Measures a case, prints its table, and returns what is written of it."""
    print(f"\n{case.name}: {case.title} …", flush=True)
    if case.of_weir:
        peers = [Weir(binary, many=True), Weir(binary, "one-route")]
    peers = [peer for peer in peers if case.bytes > 16_384 or not peer.large_bodies_only]
    result = Result({}, {peer.name: peer.missing() for peer in peers if peer.missing()})
    found = measured(case, bench, [peer for peer in peers if not peer.missing()])
    found.unfit |= result.unfit
    said = report.summary(case, found)
    print(report.table(case, said), flush=True)
    return said


def ceiling(bench):
    """What the load and the upstreams do without a proxy: requests a second, by the size of the body."""
    rates = {}
    for case in CASES:
        if case.kind == "cost" and case.bytes not in rates:
            result = bench.load.checked("closed", bench.upstreams[UPSTREAMS[0]], bytes=case.bytes, count=case.count)
            rates[case.bytes] = round(result["answered"] / result["seconds"])
    told = ", ".join(f"{rate} requests/s of {size} B" for size, rate in rates.items())
    print(f"load and upstreams without a proxy: {told}")
    return rates


def machine(chosen, files):
    """Where it was measured."""
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    return {
        "cpu": model, "cores": os.cpu_count(), "target_core": chosen[0], "load_core": chosen[1],
        "kernel": platform.release(), "open_files": files, "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
