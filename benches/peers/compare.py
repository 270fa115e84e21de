#!/usr/bin/env python3
"""CPU per request of weir beside nginx and HAProxy at the same job, in one run.

The job: a sticky 90/9/1 split by `x-user-id` to three keep-alive upstreams, access log off, one worker pinned to a core
of its own; the load (wrk) and the upstreams (nginx) have the other core. Targets are interleaved over rounds; the figure
is user+system time of the proxy's processes divided by the requests of the round, and its ratio to HAProxy in the same
round. Needs two cores and the programs nginx, haproxy and wrk (Debian packages of these names).

    cargo build --release && python3 benches/peers/compare.py [--rounds 5] [--seconds 5] [--connections 32]
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
UPSTREAMS = {"blue": 18081, "green": 18082, "canary": 18083}
PORTS = {"weir": 18100, "nginx": 18101, "haproxy": 18102}

UPSTREAM = """
worker_processes 1; daemon off; pid {dir}/upstream.pid; error_log {dir}/upstream.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
{servers}
}}
"""

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; proxy_buffers 8 64k; proxy_buffer_size 64k;
  split_clients "$http_x_user_id" $arm {{ 1% canary; 9% green; * blue; }}
{upstreams}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    location / {{
      proxy_pass http://$arm; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id; proxy_set_header X-Weir-Variant $arm;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 1s
  timeout client 600s
  timeout server 30s
  option forwardfor
  http-reuse always
frontend in
  bind 127.0.0.1:{port}
  http-request set-var(txn.h) req.hdr(x-user-id),xxh32,mod(100)
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[uuid]
  use_backend canary if {{ var(txn.h) -m int lt 1 }}
  use_backend green if {{ var(txn.h) -m int ge 91 }}
  default_backend blue
{backends}
"""

WEIR = """
workers: 1
listeners: [{{ bind: 127.0.0.1:{port} }}]
admin: {{ bind: 127.0.0.1:18190 }}
upstreams:
{upstreams}
splits:
  checkout:
    key: [header:x-user-id]
    variants: [{{ name: blue }}, {{ name: green, weight: 9% }}, {{ name: canary, weight: 1% }}]
routes: [{{ split: checkout }}]
"""

LOAD = """
local number = 0
request = function()
  number = number + 1
  wrk.headers["x-user-id"] = "user-" .. (number % 10000)
  return wrk.format("GET", "/{size}")
end
"""


def cpu_of(pid):
    """User and system seconds of a process, its threads and its children."""
    total = 0.0
    tick = os.sysconf("SC_CLK_TCK")
    pids, seen = [pid], set()
    while pids:
        one = pids.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            runtime = 0
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                runtime += int((task / "schedstat").read_text().split()[0])
                children = (task / "children").read_text().split()
                pids.extend(int(child) for child in children)
            total += runtime / 1e9 if runtime else (int(fields[11]) + int(fields[12])) / tick
        except FileNotFoundError:
            continue
    return total


def wait_for(port):
    for _ in range(500):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/128", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.01)
    sys.exit(f"nothing answers on port {port}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=128, choices=[128, 65536, 1048576])
    parser.add_argument("--binary", default=str(ROOT / "target/release/weir"))
    parser.add_argument("--other", help="another build of weir, measured beside this one")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    missing = [tool for tool in ("nginx", "haproxy", "wrk", "taskset") if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; `apt-get install nginx haproxy wrk util-linux` has them")
    if not os.access(options.binary, os.X_OK):
        sys.exit(f"{options.binary} is missing; `cargo build --release` makes it")

    # weir watches the folder of its file: one that nobody else writes into, as in production.
    quiet = pathlib.Path(options.binary).resolve().parent
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=quiet) as own:
        base = pathlib.Path(folder)
        for size in (128, 65536, 1048576):
            (base / str(size)).write_bytes(b"x" * size)
        os.chmod(folder, 0o755)
        servers = "\n".join(
            f"server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}; open_file_cache max=10; }}"
            for port in UPSTREAMS.values()
        )
        (base / "upstream.conf").write_text(UPSTREAM.format(dir=folder, servers=servers))
        upstreams = "\n".join(
            f"  upstream {name} {{ server 127.0.0.1:{port}; keepalive 256; keepalive_requests 100000000; }}"
            for name, port in UPSTREAMS.items()
        )
        (base / "nginx.conf").write_text(NGINX.format(dir=folder, port=PORTS["nginx"], upstreams=upstreams))
        backends = "\n".join(
            f"backend {name}\n  http-request set-header X-Weir-Variant {name}\n  server s 127.0.0.1:{port}"
            for name, port in UPSTREAMS.items()
        )
        (base / "haproxy.cfg").write_text(HAPROXY.format(port=PORTS["haproxy"], backends=backends))
        upstreams = "\n".join(f"  {name}: {{ endpoints: ['127.0.0.1:{port}'] }}" for name, port in UPSTREAMS.items())
        (pathlib.Path(own) / "weir.yaml").write_text(WEIR.format(port=PORTS["weir"], upstreams=upstreams))
        (base / "load.lua").write_text(LOAD.format(size=options.size))

        commands = {
            "upstream": ["taskset", "-c", "1", "nginx", "-c", f"{folder}/upstream.conf"],
            "nginx": ["taskset", "-c", "0", "nginx", "-c", f"{folder}/nginx.conf"],
            "haproxy": ["taskset", "-c", "0", "haproxy", "-f", f"{folder}/haproxy.cfg"],
            "weir": ["taskset", "-c", "0", options.binary, "run", "--config", f"{own}/weir.yaml"],
        }
        ports = dict(PORTS)
        if options.other:
            ports["other"] = 18103
            path = pathlib.Path(own) / "other.yaml"
            path.write_text(WEIR.format(port=ports["other"], upstreams=upstreams).replace("18190", "18191"))
            commands["other"] = ["taskset", "-c", "0", options.other, "run", "--config", str(path)]
        running = {}
        try:
            for name, command in commands.items():
                log = open(base / f"{name}.out", "wb")
                running[name] = subprocess.Popen(command, stdout=log, stderr=log)
            for port in [*UPSTREAMS.values(), *ports.values()]:
                wait_for(port)
            measure(options, folder, running, ports)
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)
            for process in running.values():
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def measure(options, folder, running, ports):
    figures = {name: [] for name in ports}
    for number in range(options.rounds):
        for name, port in ports.items():
            before = cpu_of(running[name].pid)
            load = ["taskset", "-c", "1", "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s",
                    "-s", f"{folder}/load.lua", f"http://127.0.0.1:{port}/"]
            said = subprocess.run(load, capture_output=True, text=True, check=True).stdout
            spent = cpu_of(running[name].pid) - before
            requests = int(next(line for line in said.splitlines() if "requests in" in line).split()[0])
            if "Non-2xx" in said or "Socket errors" in said:
                sys.exit(f"{name} did not do its job:\n{said}")
            figures[name].append({"us": spent / requests * 1e6, "rps": requests / options.seconds})
        row = "  ".join(f"{name} {figures[name][-1]['us']:.2f} µs" for name in ports)
        print(f"round {number + 1}: {row}", flush=True)
    ratios = {
        name: [one["us"] / peer["us"] for one, peer in zip(rounds, figures["haproxy"])]
        for name, rounds in figures.items()
    }
    print(f"\nCPU per request, {options.size} B, {options.connections} connections; ratio to HAProxy in the same round")
    print(f"{'':10}{'µs median':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}{'rps':>10}")
    for name, rounds in figures.items():
        us = statistics.median(one["us"] for one in rounds)
        rps = statistics.median(one["rps"] for one in rounds)
        low, middle, high = min(ratios[name]), statistics.median(ratios[name]), max(ratios[name])
        print(f"{name:10}{us:10.2f}{middle:8.2f}{low:8.2f}{high:8.2f}{rps:10.0f}")
    print("Differences inside the spread (lowest to highest) are no differences.")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"options": vars(options), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
