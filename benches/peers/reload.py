#!/usr/bin/env python3
"""Changes of the weights while a proxy is under load: what fails, and how soon each is in effect.

Starts three nginx upstreams, weir with one worker, and wrk; renames a new file over the watched one again and again, and
waits each time until `/status` tells the next generation. Needs nginx and wrk (Debian packages of these names).

    cargo build --release && python3 benches/peers/reload.py [--reloads 100] [--connections 32]
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import compare


def generation():
    with urllib.request.urlopen("http://127.0.0.1:18190/status", timeout=5) as answer:
        return json.load(answer)["generation"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--binary", default=str(compare.ROOT / "target/release/weir"))
    options = parser.parse_args()
    quiet = pathlib.Path(options.binary).resolve().parent
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=quiet) as own:
        base, own = pathlib.Path(folder), pathlib.Path(own)
        os.chmod(folder, 0o755)
        (base / "128").write_bytes(b"x" * 128)
        servers = "\n".join(
            f"server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}; open_file_cache max=10; }}"
            for port in compare.UPSTREAMS.values()
        )
        (base / "upstream.conf").write_text(compare.UPSTREAM.format(dir=folder, servers=servers))
        (base / "load.lua").write_text(compare.LOAD.format(size=128))
        upstreams = "\n".join(
            f"  {name}: {{ endpoints: ['127.0.0.1:{port}'] }}" for name, port in compare.UPSTREAMS.items()
        )
        text = compare.WEIR.format(port=compare.PORTS["weir"], upstreams=upstreams)
        (own / "weir.yaml").write_text(text)
        running = []
        try:
            for command in (
                ["nginx", "-c", f"{folder}/upstream.conf"],
                [options.binary, "run", "--config", str(own / "weir.yaml")],
            ):
                running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            for port in [*compare.UPSTREAMS.values(), compare.PORTS["weir"]]:
                compare.wait_for(port)
            seconds = max(5, options.reloads // 5)
            load = subprocess.Popen(
                ["wrk", "-t1", f"-c{options.connections}", f"-d{seconds}s", "--latency", "-s", f"{folder}/load.lua",
                 f"http://127.0.0.1:{compare.PORTS['weir']}/"],
                stdout=subprocess.PIPE, text=True,
            )
            effects = [change(own, text, number) for number in range(options.reloads)]
            still_loaded = load.poll() is None
            said = load.communicate()[0]
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(10)
    print(said)
    effects.sort()
    print(f"{options.reloads} changes of the weights, from rename to effect: median {statistics.median(effects) * 1e3:.0f} ms, "
          f"longest {effects[-1] * 1e3:.0f} ms")
    failed = "Non-2xx" in said or "Socket errors" in said
    print("requests failed: see above" if failed else "no request failed")
    if failed or not still_loaded:
        sys.exit("the load ended before the last change" if not failed else 1)


def change(own, text, number):
    """Renames the next configuration over the file; how long it took to be in effect."""
    before = generation()
    (own / "next").write_text(text.replace("weight: 1%", f"weight: {2 + number % 50}%"))
    started = time.monotonic()
    os.rename(own / "next", own / "weir.yaml")
    while generation() == before:
        if time.monotonic() - started > 10:
            sys.exit("a change is not in effect after 10 s")
        time.sleep(0.002)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
