"""Processes that the harness starts, each on a core and in a session of its own, and always ends."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time

FILES = 40_000


def free_port():
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def raise_file_limit():
    """Lets this process and its children open enough files for the idle connections; how many they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(hard, FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@contextlib.contextmanager
def started(command, core, **streams):
    """A running process, ended with all that it started when the block is left, whichever way."""
    process = subprocess.Popen(
        command, start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}), **streams
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        # Whatever of its session is left, workers of a master that did not end by itself among them.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(process, port, log):
    """Returns when somebody listens on `port`; says why the process did not."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Unfit(f"does not listen: {log.read_text(errors='replace')[-400:].strip() or 'it says nothing'}")


class Unfit(Exception):
    """A target cannot be measured, and why."""
