"""What processes and cores spent: CPU time, memory, and whether somebody else was there."""

import os
import pathlib
import resource
import time

# Names of the shares of the two cores that somebody else used.
FOREIGN = ("foreign_target_percent", "foreign_load_percent")

TICK = os.sysconf("SC_CLK_TCK")


def family(pid):
    """A process and all its descendants."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        try:
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                left.extend(int(child) for child in (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def cpu_seconds(pid):
    """User and system time of a process, its threads and its descendants, those that ended among them.

    To the nanosecond for the living; the kernel keeps what the dead spent in ticks.
    """
    total = 0.0
    for one in family(pid):
        try:
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += (int(fields[13]) + int(fields[14])) / TICK
    return total


def memory_bytes(pid):
    """The proportional set size of a process and its descendants: what they share counts once."""
    total = 0
    for one in family(pid):
        try:
            rollup = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024


def core_seconds(core):
    """How long a core was idle, and how long the host took it away, in seconds since the start."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            return (int(fields[3]) + int(fields[4])) / TICK, int(fields[7]) / TICK
    raise SystemExit(f"/proc/stat knows no core {core}")


class Meter:
    """Measures from its making to `stop`: a target's CPU time, and how much of either core was somebody else's."""

    def __init__(self, cores, target, upstream):
        self.cores, self.target, self.upstream = cores, target, upstream
        self.before = self.now()

    def now(self):
        """The clock, the target's time, the load's with the upstreams and this process, each core's idle and stolen time."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() + usage.ru_utime + usage.ru_stime
        idle, stolen = zip(*(core_seconds(core) for core in self.cores))
        return time.monotonic(), cpu_seconds(self.target), cpu_seconds(self.upstream) + own, *idle, *stolen

    def stop(self):
        """The target's CPU seconds, and the foreign share of the target's and the load's core, in percent.

        The load must have been waited for: its time is known then. What the host took away is foreign too.
        """
        elapsed, target, load, *cores = (after - before for before, after in zip(self.before, self.now()))
        idle, stolen = cores[:2], cores[2:]
        foreign = [
            100 * max(0.0, taken, elapsed - rest - ours) / elapsed
            for ours, rest, taken in zip((target, load), idle, stolen)
        ]
        return target, dict(zip(FOREIGN, foreign))
