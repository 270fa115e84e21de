"""What a target is: how it is configured, started, checked and told new weights."""

import contextlib
import dataclasses
import http.client
import os
import pathlib
import socket
import ssl
import subprocess
import tempfile
import time

from certificates import HOST
from job import CANARY_PERCENT, FORWARDED, GREEN_PERCENT, UPSTREAMS, USER_HEADER
from load import shares
from process import Unfit, free_port, started, wait_for


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a configuration is made of."""

    folder: pathlib.Path  # its files, and nothing else: it may be watched
    aside: pathlib.Path  # what it writes
    port: int
    upstreams: dict  # ports by name
    access_log: bool
    certificates: object = None  # without them there is no TLS
    canary: int = CANARY_PERCENT

    @property
    def weights(self):
        """The percentages, in the order of the upstreams."""
        return dict(zip(UPSTREAMS, (100 - GREEN_PERCENT - self.canary, GREEN_PERCENT, self.canary)))

    @property
    def log(self):
        """Where access log lines go."""
        return self.aside / "access.log"


class Peer:
    """A proxy program. A subclass tells its name, its files and its command."""

    name = ""
    reloads_by = None  # how it takes new weights; `None` where it cannot
    large_bodies_only = False  # measured where the body is larger than a buffer
    tls = True  # whether it can be measured with TLS

    def version(self):
        """What the program calls itself."""
        raise NotImplementedError

    def missing(self):
        """Why it cannot be measured here, or `None`."""
        return None

    def files(self, setting):
        """The text of each file, by name."""
        raise NotImplementedError

    def command(self, setting):
        """The program and its arguments."""
        raise NotImplementedError

    def reload(self, process):
        """Tells the running program that its files are new; one that watches them needs no word."""

    def write(self, setting):
        """Puts the files in place, each by a rename."""
        for name, text in self.files(setting).items():
            (setting.folder / f".{name}.new").write_text(text)
            os.rename(setting.folder / f".{name}.new", setting.folder / name)

    @contextlib.contextmanager
    def running(self, upstreams, core, access_log=False, certificates=None):
        """The program at work, as a `Target`."""
        with tempfile.TemporaryDirectory(prefix=f"weir-peers-{self.name}-") as base:
            folder, aside = pathlib.Path(base) / "configuration", pathlib.Path(base) / "aside"
            folder.mkdir()
            aside.mkdir()
            # Workers of nginx are not root, even where their master is.
            os.chmod(base, 0o755)
            setting = Setting(folder, aside, free_port(), upstreams, access_log, certificates)
            self.write(setting)
            said = aside / "said"
            with said.open("wb") as out, started(
                self.command(setting), core, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            ) as process:
                wait_for(process, setting.port, said)
                yield Target(self, setting, process)


def first_line(*command):
    """The first line that a program prints, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


class Target:
    """A running peer."""

    def __init__(self, peer, setting, process):
        self.peer, self.setting, self.process = peer, setting, process
        self.name, self.port, self.pid = peer.name, setting.port, process.pid
        self.requests = 0  # that were measured

    def change_weights(self, canary):
        """Gives the canary another share while it runs."""
        self.setting = dataclasses.replace(self.setting, canary=canary)
        self.peer.write(self.setting)
        self.peer.reload(self.process)

    def check(self, load, case):
        """Warms it up, and raises `Unfit` where it does not do the job."""
        try:
            heads = self.echo().lower().splitlines()
        except (OSError, http.client.HTTPException) as error:
            raise Unfit(f"the first request failed: {error}") from error
        names = {line.split(":")[0] for line in heads[1:]}
        lacking = [name for name in FORWARDED if name not in names]
        if lacking:
            raise Unfit(f"does not send {', '.join(lacking)} to the upstream")
        self.check_shares(load, case)

    def echo(self):
        """What an upstream sees of a request; over TLS the certificate is verified here, which the load does not do."""
        connection = http.client.HTTPConnection(HOST, self.port)
        connection.sock = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        with contextlib.closing(connection):
            if self.setting.certificates:
                context = ssl.create_default_context(cafile=self.setting.certificates.authority)
                context.set_alpn_protocols(["http/1.1"])
                connection.sock = context.wrap_socket(connection.sock, server_hostname=HOST)
            connection.request("GET", "/echo", headers={USER_HEADER: "user-0001"})
            answer = connection.getresponse()
            body = answer.read().decode()
            if answer.status != 200:
                raise Unfit(f"the first request was answered with {answer.status}")
            return body

    def check_shares(self, load, case):
        """Asks once for every user, twice: each stays where it is, and the shares are near the weights."""
        result = load.checked("closed", self.port, bytes=case.bytes, headers=case.headers,
                              count=20_000 if case.bytes < 100_000 else 2_000, **case.talk(self.setting.certificates))
        for name, share in shares(result).items():
            weight = self.setting.weights[name]
            # 10 000 users or 2 000: five standard deviations of the smaller.
            if abs(share - weight) > 5 * (weight * (100 - weight) / 2_000) ** 0.5:
                raise Unfit(f"{name} got {share:.1f}% of the users instead of {weight}%")

    def wait_for_shares(self, load, case):
        """Returns when the shares are the last weights; `Unfit` when they are not within 5 s."""
        deadline = time.monotonic() + 5
        while True:
            try:
                return self.check_shares(load, case)
            except Unfit:
                if time.monotonic() > deadline:
                    raise
