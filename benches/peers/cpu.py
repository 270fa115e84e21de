"""What processes and cores spent: CPU time, memory, and whether somebody else was there."""

import os
import pathlib
import resource
import time

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
    """User and system time of a process, its threads and its descendants, to the nanosecond."""
    total = 0
    for one in family(pid):
        try:
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / 1e9


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
    """Measures from its making to `stop`: a target's time, and the share of either core that was somebody else's."""

    def __init__(self, cores, target, upstream):
        self.cores, self.target, self.upstream = cores, target, upstream
        self.before = self.now()

    def now(self):
        """Everything that is looked at, in one tuple."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() + usage.ru_utime + usage.ru_stime
        cores = [core_seconds(core) for core in self.cores]
        return time.monotonic(), cpu_seconds(self.target), cpu_seconds(self.upstream) + own, cores

    def stop(self):
        """The target's CPU seconds, and the larger foreign share of the two cores, in percent.

        The load must have been waited for: its time is known then.
        """
        elapsed, target, load, cores = (
            after - before if not isinstance(after, list) else
            [tuple(b - a for a, b in zip(*pair)) for pair in zip(before, after)]
            for before, after in zip(self.before, self.now())
        )
        foreign = [elapsed - idle - ours for (idle, _), ours in zip(cores, (target, load))]
        stolen = [steal for _, steal in cores]
        return target, max(0.0, *foreign, *stolen) / elapsed * 100
