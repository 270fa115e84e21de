"""How each kind of case is measured. A measurement of one target in one round is a record: figures by name."""

import contextlib
import dataclasses
import time

from cpu import FOREIGN, Meter, memory_bytes
from load import FAILURES, results
from process import Unfit


@dataclasses.dataclass
class Bench:
    """What all cases share."""

    load: object
    cores: tuple  # the target's, the load's
    upstream: object
    upstreams: dict
    certificates: object
    options: object


@dataclasses.dataclass
class Result:
    """What came of a case."""

    records: dict  # of each target, one record a round
    unfit: dict  # why a target was not measured, by its name
    discarded: int = 0  # rounds in which somebody else used a core


def measured(case, bench, peers):
    """The result of `case` for `peers`."""
    return {"cost": running, "latency": running, "idle": fresh, "reload": fresh}[case.kind](case, bench, peers)


def running(case, bench, peers):
    """Every target is started once and keeps running; rounds go over them."""
    with contextlib.ExitStack() as stack:
        targets, unfit = {}, {}
        certificates = bench.certificates if case.tls else None
        for peer in peers:
            if case.tls and not peer.tls:
                unfit[peer.name] = "it is built without TLS"
                continue
            with contextlib.ExitStack() as own:
                try:
                    target = own.enter_context(
                        peer.running(bench.upstreams, bench.cores[0], case.access_log, certificates)
                    )
                    target.check(bench.load, case)
                except Unfit as error:
                    unfit[peer.name] = str(error)
                    continue
                targets[peer.name] = target
                stack.push(own.pop_all())
        one = cost if case.kind == "cost" else latency
        result = rounds(case, bench, list(targets), lambda name: one(case, bench, targets[name]))
        result.unfit |= unfit
        if case.access_log:
            check_logs(result, targets)
        return result


def fresh(case, bench, peers):
    """A target is started anew for each of its measurements."""
    one = idle if case.kind == "idle" else reload
    by_name = {peer.name: peer for peer in peers}

    def start(name):
        with by_name[name].running(bench.upstreams, bench.cores[0]) as target:
            target.check(bench.load, case)
            return one(case, bench, target)

    return rounds(case, bench, list(by_name), start)


def rounds(case, bench, names, one):
    """Measures all targets in each round, in a rotating order; what others did to the cores discards a round."""
    result = Result({name: [] for name in names}, {})
    wanted = bench.options.rounds or case.rounds
    for number in range(2 * wanted):
        if not names or len(result.records[names[0]]) == wanted:
            break
        turn = number % len(names)
        records = {}
        for name in names[turn:] + names[:turn]:
            try:
                records[name] = one(name)
            except Unfit as error:
                result.unfit[name] = str(error)
        names = [name for name in names if name not in result.unfit]
        foreign = max((strangers(record) for record in records.values()), default=0)
        kept = foreign <= bench.options.foreign
        result.discarded += not kept
        for name in names:
            if kept:
                result.records[name].append(records[name])
        row = "  ".join(f"{name} {records[name][case.figure]:.2f}" for name in names)
        word = "" if kept else f"  discarded: others used a core ({foreign:.0f}%)"
        print(f"  round {number + 1}: {row}{word}", flush=True)
    for name in result.unfit:
        result.records.pop(name, None)
    return result


def strangers(record):
    """What others used of the cores, in percent. What waking up costs on the load's core belongs to nobody: a third."""
    target, load = (record.get(name, 0) for name in FOREIGN)
    return max(target, load / 3)


def cost(case, bench, target):
    """CPU time per request at full load."""
    meter = Meter(bench.cores, target.pid, bench.upstream.pid)
    result = bench.load.checked(
        "closed", target.port, bytes=case.bytes, headers=case.headers, connections=case.connections,
        count=case.requests(bench.options), close=case.close, resume=case.resume, **case.talk(bench.certificates),
    )
    spent, foreign = meter.stop()
    target.requests += result["answered"]
    if case.close:
        check_handshakes(case, result)
    each = "handshakes" if case.close else "requests"
    return {
        "cpu_us": spent / result["answered"] * 1e6,
        f"{each}_per_second": result["answered"] / result["seconds"],
    } | foreign


def check_handshakes(case, result):
    """There must have been one for each request, and of the kind that the case is about; the first cannot resume."""
    full = result["handshakes"] - result["resumed"]
    if result["handshakes"] < result["answered"]:
        raise Unfit(f"{result['handshakes']} handshakes for {result['answered']} requests")
    if full > case.connections if case.resume else result["resumed"]:
        raise Unfit(f"{full} of {result['handshakes']} handshakes were full ones")


def latency(case, bench, target):
    """Latency at a fixed rate."""
    meter = Meter(bench.cores, target.pid, bench.upstream.pid)
    result = bench.load.checked(
        "open", target.port, bytes=case.bytes, headers=case.headers, connections=case.connections, rate=case.rate,
        count=case.requests(bench.options), **case.talk(bench.certificates),
    )
    spent, foreign = meter.stop()
    return latencies(result) | {"cpu_us": spent / result["answered"] * 1e6} | foreign


def idle(case, bench, target):
    """What a connection costs that has made a request and waits for the next."""
    settle()
    before = memory_bytes(target.pid)
    with bench.load.begin("idle", target.port, connections=case.connections) as process:
        result = results(process)
        settle()
        after = memory_bytes(target.pid)
        process.stdin.close()
        held = results(process)["held"]
    if result["answered"] != case.connections or held != case.connections:
        raise Unfit(f"answered {result['answered']} and held {held} of {case.connections} connections")
    return {"bytes": (after - before) / case.connections, "base_kib": before / 1024}


def reload(case, bench, target):
    """What clients see while the weights change again and again."""
    if target.peer.reloads_by is None:
        raise Unfit("it cannot change weights while it runs")
    count = case.requests(bench.options)
    changes = 2 * count // case.rate
    meter = Meter(bench.cores, target.pid, bench.upstream.pid)
    with bench.load.begin(
        "open", target.port, connections=case.connections, rate=case.rate, count=count, moving=True
    ) as process:
        started = time.monotonic()
        for number in range(changes):
            time.sleep(max(0.0, started + (number + 0.5) / 2 - time.monotonic()))
            target.change_weights(canary=2 + number)
        result = results(process)
    spent, foreign = meter.stop()
    target.wait_for_shares(bench.load, case)
    return latencies(result) | foreign | {
        "failed": sum(result[name] for name in FAILURES),
        "closed_under": result["closed_under"],
        "closed_between": result["closed_between"],
        "cpu_us": spent / count * 1e6,
    }


def latencies(result):
    """The percentiles of a load."""
    return {name: result[name] for name in ("p50_us", "p99_us", "p999_us", "max_us")}


def check_logs(result, targets):
    """A target must have written a line for every request; the last ones may take a while."""
    for name in list(result.records):
        target = targets[name]
        deadline = time.monotonic() + 15
        while (lines := count_lines(target.setting.log)) < target.requests and time.monotonic() < deadline:
            time.sleep(0.1)
        if lines < target.requests:
            result.unfit[name] = f"wrote {lines} lines of access log for {target.requests} requests"
            del result.records[name]


def count_lines(path):
    """How many lines a file has."""
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


def settle():
    """Lets a target come to rest: timers of a second and buffers that are given back later are over."""
    time.sleep(1.5)
