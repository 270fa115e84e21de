"""The job that every target does, and the cases in which it is measured."""

import dataclasses

# The split: a user's share is decided by a hash of this header. The first takes what the others leave.
UPSTREAMS = ("blue", "green", "canary")
USER_HEADER = "x-user-id"
GREEN_PERCENT = 9
CANARY_PERCENT = 1

# What an upstream must find in a forwarded request, whatever its value.
FORWARDED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "x-weir-variant")


@dataclasses.dataclass(frozen=True)
class Case:
    """A row: what is asked for, how, and which figure is compared (the lower the better)."""

    name: str
    title: str
    kind: str  # a function of `measure`
    figure: str  # a key of the function's records
    unit: str
    bytes: int = 128
    headers: int = 2
    access_log: bool = False
    tls: bool = False
    protocol: str = "h1"  # or `h2`
    connections: int = 32
    streams: int = 1  # requests under way at once on a connection
    close: bool = False  # each request has a connection of its own
    resume: bool = False  # which goes on with the TLS session of an earlier one
    count: int = 0
    rate: int = 0
    seconds: int = 0
    rounds: int = 5
    of_weir: bool = False  # weir beside itself, in two configurations
    also: tuple = ()  # further figures of the table

    def requests(self, options):
        """How many requests a round makes, by the options where they tell."""
        if self.rate:
            return self.rate * (options.seconds or self.seconds)
        return options.count or self.count

    def talk(self, certificates):
        """How the load talks to the target, in the words of the load."""
        settings = {"protocol": self.protocol, "streams": self.streams}
        return settings | {"tls": certificates.certificate} if self.tls else settings


def cost(name, title, **settings):
    """A case of CPU time per request, in a closed loop of a fixed count."""
    return Case(name, title, "cost", "cpu_us", "µs CPU/request", also=("requests_per_second",), **settings)


def handshakes(name, title, **settings):
    """A case of CPU time per TLS handshake, each on a connection of its own with one request."""
    return Case(name, title, "cost", "cpu_us", "µs CPU/handshake", tls=True, connections=8, close=True, count=10_000,
                also=("handshakes_per_second",), **settings)


def latency(rate):
    """A case of latency in an open loop at `rate` requests a second."""
    return Case(
        f"latency-{rate}", f"latency at {rate} requests/s, 128 B", "latency", "p99_us", "µs p99", rate=rate, seconds=6,
        rounds=3, also=("p50_us", "p999_us", "cpu_us"),
    )


CASES = (
    cost("h1-128", "HTTP/1.1, 128 B", count=200_000),
    cost("h1-64k", "HTTP/1.1, 64 KiB", bytes=65_536, count=60_000),
    cost("h1-1m", "HTTP/1.1, 1 MiB", bytes=1_048_576, count=6_000),
    cost("h1-20-headers-log", "HTTP/1.1, 128 B, 20 request headers, access log to a file", headers=20, access_log=True,
         count=120_000),
    cost("tls-h1-128", "HTTP/1.1 over TLS, 128 B", tls=True, count=100_000),
    cost("tls-h1-64k", "HTTP/1.1 over TLS, 64 KiB", tls=True, bytes=65_536, count=30_000),
    cost("h2-128", "HTTP/2 over TLS, 4 connections of 8 streams, 128 B", tls=True, protocol="h2", connections=4,
         streams=8, count=100_000),
    handshakes("tls-handshakes", "full TLS handshakes, a request each"),
    handshakes("tls-resumed", "resumed TLS handshakes, a request each", resume=True),
    Case("idle", "memory of an idle connection", "idle", "bytes", "B/connection", connections=10_000, rounds=3,
         also=("base_kib",)),
    latency(2_000),
    latency(10_000),
    Case("reload", "20 changes of the weights in 10 s at 2000 requests/s", "reload", "p999_us", "µs p99.9", rate=2_000,
         seconds=10, rounds=3, also=("failed", "closed_under", "closed_between", "p99_us")),
    cost("routes", "weir with 10 000 routes and 1 000 splits beside one", count=200_000, of_weir=True),
)

# What somebody may look for among the cases, and why it is not there.
ABSENT = {
    "metrics": "weir's metrics cannot be switched off; `cargo bench --bench telemetry` tells what counting costs",
}
