#!/usr/bin/env python3
"""What faults of endpoints cost (`make faults`): a load at a fixed rate, endpoints that are killed and started again.

Requests lost, with retries and without; how long the dead endpoint is still tried, and how long it takes until it is used
again once it is back; a variant that is dead while its baseline stands in and the configuration changes a hundred times.
Everything is a process of its own: weir, the endpoints (weir too, which answers by itself) and the load. It prints the
figures, as text and as JSON, and judges nothing.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import sys
import tempfile
import time
import urllib.request

import tools
from load import FAILURES, Load, results
from process import free_port, raise_file_limit, started, wait_for

BODY = "x" * 128
ENDPOINT = """
workers: 1
listeners: [{{ bind: '{address}' }}]
telemetry: {{ bind: 127.0.0.1:{pages} }}
routes: [{{ respond: {{ body: {body} }}, response_headers: {{ set: {{ x-upstream: {name} }} }} }}]
"""
# Retries off, and as they come.
ROUTES = {"without retries": "{ upstream: blue, retry: { attempts: 1 } }", "with retries": "{ upstream: blue }"}
# How long an endpoint stands still before it is killed, so that there is something in flight.
HELD = (0.0, 0.05)
RELOADS = 100
# Seconds before a fault, and until what was killed is started again.
WARM, DEAD = 4, 4
# Between two looks at the metrics.
PAUSE = 0.02
# How long an endpoint is left alone at least, to be called that.
CALM = 0.5


class Endpoint:
    """A process that answers every request; it can be killed and started again where it was."""

    def __init__(self, binary, folder, name, core):
        self.binary, self.core = binary, core
        # An address that nobody else uses: its port is still free when the process is started again.
        self.host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        with socket.socket() as one:
            one.bind((self.host, 0))
            self.port = one.getsockname()[1]
        self.address, self.pages = f"{self.host}:{self.port}", free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
        text = ENDPOINT.format(address=self.address, pages=self.pages, body=BODY, name=name)
        (self.folder / "weir.yaml").write_text(text)
        self.stack = contextlib.ExitStack()
        self.process = None

    def run(self):
        """Starts the process; returns when it listens."""
        said = self.folder / "said"
        with said.open("wb") as out:
            self.process = self.stack.enter_context(
                started([self.binary, "run", "--config", str(self.folder / "weir.yaml")], self.core, stdout=out, stderr=out)
            )
        wait_for(self.process, self.pages, said)

    def stop(self):
        """Stops the process, which keeps its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        """Kills the process."""
        self.process.kill()
        self.process.wait()

    def end(self):
        """Ends whatever runs of it."""
        self.stack.close()

    def answered(self):
        """How many requests it has answered since it was started."""
        return value(metrics(self.pages), "weir_request_duration_seconds_count")


class Proxy:
    """weir before endpoints, and what it tells."""

    def __init__(self, binary, folder, core):
        self.binary, self.core = binary, core
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="proxy-", dir=folder))
        self.port, self.pages = free_port(), free_port()

    def write(self, rest):
        """Puts the configuration in place by a rename."""
        head = f"workers: 2\nlisteners: [{{ bind: 127.0.0.1:{self.port} }}]\nadmin: {{ bind: 127.0.0.1:{self.pages} }}\n"
        (self.folder / ".new").write_text(head + rest)
        os.rename(self.folder / ".new", self.folder / "weir.yaml")

    @contextlib.contextmanager
    def running(self):
        """The process at work."""
        said = self.folder / "said"
        with said.open("wb") as out, started(
            [self.binary, "run", "--config", str(self.folder / "weir.yaml")], self.core, stdout=out, stderr=out
        ) as process:
            wait_for(process, self.port, said)
            yield self

    def metric(self, name, *labels):
        """The sum of the series with these labels."""
        return value(metrics(self.pages), name, *labels)

    def reload(self, rest):
        """Gives it another configuration; returns when it serves."""
        before = self.metric("weir_config_generation")
        self.write(rest)
        deadline = time.monotonic() + 10
        while self.metric("weir_config_generation") <= before:
            if time.monotonic() > deadline:
                raise SystemExit("a configuration does not serve after 10 s")
            time.sleep(PAUSE)


def metrics(port):
    """The metrics as text."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def value(text, name, *labels):
    """The sum of the series called `name` with these labels."""
    rows = (line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in rows if all(label in line for label in labels))


def lost(result):
    """The requests of a load that failed, and how."""
    return {name: result[name] for name in FAILURES if result[name]}


def errors(proxy):
    """The answers of the proxy's own, by code."""
    rows = (line for line in metrics(proxy.pages).splitlines() if line.startswith("weir_errors_total{"))
    return {line.split('code="')[1].split('"')[0]: int(float(line.rsplit(" ", 1)[1])) for line in rows}


def killed(bench, title, route, held):
    """One of two endpoints is killed, and started again later."""
    one, two = (Endpoint(bench.weir, bench.folder, "blue", bench.cores[-1]) for _ in range(2))
    proxy = Proxy(bench.weir, bench.folder, bench.cores[0])
    proxy.write(f"upstreams: {{ blue: {{ endpoints: ['{one.address}', '{two.address}'] }} }}\nroutes: [{route}]\n")
    with contextlib.ExitStack() as stack:
        for endpoint in (one, two):
            stack.callback(endpoint.end)
            endpoint.run()
        stack.enter_context(proxy.running())
        process = stack.enter_context(bench.begin(proxy))
        time.sleep(WARM)
        if held:
            one.stop()
            time.sleep(held)
        in_flight = proxy.metric("weir_upstream_requests_active")
        at = time.monotonic()
        one.kill()
        seen = []
        while time.monotonic() < at + DEAD:
            seen.append((time.monotonic() - at, proxy.metric("weir_upstream_failures_total")))
            time.sleep(PAUSE)
        one.run()
        back = time.monotonic()
        while not one.answered() and process.poll() is None:
            time.sleep(PAUSE)
        used = time.monotonic() - back if one.answered() else None
        result = results(process)
        return {
            "case": title, "requests": bench.count, "failed": sum(lost(result).values()), "how": lost(result),
            "codes": errors(proxy), "in_flight": in_flight, "attempts_that_failed": seen[-1][1],
            "retries": proxy.metric("weir_upstream_retries_total"),
            "left_alone_after_s": left_alone(seen), "used_again_s": used and round(used, 2), "p999_us": result["p999_us"],
        }


def left_alone(seen):
    """When attempts at the dead endpoint ceased to fail, for a time at least; later ones ask whether it is back."""
    last, count = 0.0, 0.0
    for at, failures in seen:
        if failures > count:
            if at - last > CALM and count:
                break
            last, count = at, failures
    else:
        if seen[-1][0] - last <= CALM:
            return None
    return round(last, 2)


def dead_variant(bench):
    """Both endpoints of the canary are killed; the baseline answers, and the weights change a hundred times."""
    blue, *canaries = (Endpoint(bench.weir, bench.folder, name, bench.cores[-1]) for name in ("blue", "canary", "canary"))
    proxy = Proxy(bench.weir, bench.folder, bench.cores[0])
    places = ", ".join(f"'{endpoint.address}'" for endpoint in canaries)

    def text(weight):
        return (
            f"upstreams: {{ blue: {{ endpoints: ['{blue.address}'] }}, canary: {{ endpoints: [{places}] }} }}\n"
            f"splits: {{ shop: {{ key: [header:x-user-id], variants: [{{ name: blue }}, {{ name: canary, weight: {weight}%, "
            "on_unavailable: baseline }] } }\nroutes: [{ split: shop }]\n"
        )

    proxy.write(text(30))
    with contextlib.ExitStack() as stack:
        for endpoint in (blue, *canaries):
            stack.callback(endpoint.end)
            endpoint.run()
        stack.enter_context(proxy.running())
        process = stack.enter_context(bench.begin(proxy))
        time.sleep(WARM)
        for endpoint in canaries:
            endpoint.kill()
        begin, pause = time.monotonic(), (bench.options.seconds - WARM) / (RELOADS + 5)
        reloads = 0
        while reloads < RELOADS and process.poll() is None:
            proxy.reload(text(29 + reloads % 3))
            reloads += 1
            time.sleep(max(0.0, begin + reloads * pause - time.monotonic()))
        result = results(process)
        return {
            "case": f"a variant is dead, on_unavailable: baseline, {reloads} reloads meanwhile", "requests": bench.count,
            "failed": sum(lost(result).values()), "how": lost(result), "codes": errors(proxy),
            "by_the_baseline_instead": proxy.metric("weir_upstream_requests_total", 'reason="fallback"'),
            "p999_us": result["p999_us"],
        }


class Bench:
    """What all cases have in common."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.cores = sorted(os.sched_getaffinity(0))
        self.weir = options.weir or str(tools.weir())
        self.load = Load(tools.load(), self.cores[-1])
        self.count = options.rate * options.seconds

    def begin(self, proxy):
        """The load under way; users may get another upstream."""
        return self.load.begin("open", proxy.port, connections=32, rate=self.options.rate, count=self.count,
                               bytes=len(BODY), moving=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=2_000, help="requests a second (%(default)s)")
    parser.add_argument("--seconds", type=int, default=24, help="seconds of each case (%(default)s)")
    parser.add_argument("--weir", help="the binary; a release build of this tree by default")
    parser.add_argument("--json", type=pathlib.Path, help="where the figures are written for programs, too")
    options = parser.parse_args()
    raise_file_limit()
    # Whoever ends this ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="weir-faults-") as folder:
        bench, rows = Bench(options, folder), []
        for held in HELD:
            how = f"stands still for {held * 1000:.0f} ms and is killed" if held else "is killed"
            for retries, route in ROUTES.items():
                rows.append(killed(bench, f"an endpoint of two {how}, {retries}", route, held))
                tell(rows[-1])
        rows.append(dead_variant(bench))
        tell(rows[-1])
    said = json.dumps({"rate": options.rate, "seconds": options.seconds, "rows": rows}, indent=1)
    print(said)
    if options.json:
        options.json.write_text(said + "\n")


def tell(row):
    """Prints a row for people."""
    rest = ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("case", "requests", "failed"))
    print(f"{row['case']}: {row['failed']} of {row['requests']} requests failed; {rest}", flush=True)


if __name__ == "__main__":
    main()
