"""Runs `peers-load`: the upstreams, and loads against a target."""

import contextlib
import json
import subprocess

from job import UPSTREAMS
from process import Unfit, started

FAILURES = ("refused", "broken", "status", "length", "moved", "late")


class Load:
    """The load program on its core."""

    def __init__(self, binary, core):
        self.binary, self.core = binary, core

    @contextlib.contextmanager
    def upstreams(self):
        """The running upstreams: their process, and their ports by name."""
        with started([self.binary, "upstream"], self.core, stdout=subprocess.PIPE, text=True) as process:
            yield process, json.loads(process.stdout.readline())

    @contextlib.contextmanager
    def begin(self, how, port, **settings):
        """A load under way; its standard output tells the results, one JSON object a line."""
        words = [f"{name}={str(value).lower() if isinstance(value, bool) else value}"
                 for name, value in settings.items()]
        command = [self.binary, how, f"target=127.0.0.1:{port}", *words]
        pipe = subprocess.PIPE
        with started(command, self.core, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            yield process

    def run(self, how, port, **settings):
        """The results of a load, once it came to its end."""
        with self.begin(how, port, **settings) as process:
            return results(process) | {"why": process.stderr.read().strip()}

    def checked(self, how, port, **settings):
        """As `run`, and every request was answered as it must be."""
        result = self.run(how, port, **settings)
        if sum(result[name] for name in FAILURES):
            counts = ", ".join(f"{result[name]} {name}" for name in FAILURES if result[name])
            raise Unfit(f"requests failed: {counts} {result['why']}".strip())
        return result


def results(process):
    """The next line of a load's results."""
    line = process.stdout.readline()
    if not line:
        raise Unfit(process.stderr.read().strip() or "the load said nothing")
    return json.loads(line)


def shares(result):
    """The percentage of the responses that each upstream gave."""
    total = max(1, sum(result[name] for name in UPSTREAMS))
    return {name: 100 * result[name] / total for name in UPSTREAMS}
