"""How a crowd of clients that ask for nothing hinders those that do: `crowd.py [BINARY [SECONDS]]`.

In one run the latency of paced requests is measured three times: alone, beside 10 000 connections that wait for a next
request and 1 000 that send a head little by little (and come again when they are ended), and alone again. The figures go
to the standard output; nothing of them decides anything.
"""

import collections
import contextlib
import multiprocessing
import pathlib
import selectors
import socket
import subprocess
import sys
import tempfile
import time

from process import Unfit, free_port, raise_file_limit, wait_for

IDLE, SLOW = 10_000, 1_000
PER_SECOND, CLIENTS = 400, 4
# A slow client sends a line each second; they come in the course of ten.
PERIOD, SPREAD = 1, 10
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@contextlib.contextmanager
def weir(binary, folder, name, sections):
    """A process of the proxy, and its port."""
    port, file = free_port(), folder / f"{name}.yaml"
    file.write_text(f"workers: 1\nlisteners: [{{ bind: '127.0.0.1:{port}' }}]\n{sections}")
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen([binary, "run", "--config", file], stderr=log)
    try:
        wait_for(process, port, folder / f"{name}.log")
        yield process, port
    finally:
        process.terminate()
        process.wait(60)


def served(connection):
    """Asks on `connection` and waits for the whole answer."""
    connection.sendall(GET)
    answer = b""
    while not answer.endswith(b"\r\n\r\nhere"):
        part = connection.recv(4096)
        if not part:
            raise Unfit(f"closed after {answer!r}")
        answer += part
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Unfit(f"answered {answer!r}")


def asking(port, seconds, results):
    """Asks at a steady pace; a request that begins late for another one counts from when it was due."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    step, begun, latencies = CLIENTS / PER_SECOND, time.perf_counter(), []
    for number in range(int(seconds / step)):
        due = begun + number * step
        time.sleep(max(0, due - time.perf_counter()))
        served(connection)
        latencies.append(time.perf_counter() - due)
    results.put(latencies)


def latencies(port, seconds):
    """The latencies of all clients, sorted, in milliseconds."""
    results = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=asking, args=(port, seconds, results)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        found = sorted(1000 * one for _ in clients for one in results.get(timeout=seconds + 30))
    finally:
        for client in clients:
            client.join(5)
            client.kill()
    return found


def slow(port):
    """A connection that has begun a head."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n")
    connection.setblocking(False)
    return connection


def crowd(port, ready, over):
    """Holds the crowd until told that it is over; tells how many slow ones were ended by the proxy."""
    idle = []
    for _ in range(IDLE):
        idle.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        served(idle[-1])
    # Each at its own time, as strangers are: all at once would measure how this process stirs the machine.
    selector, ended, turn = selectors.DefaultSelector(), 0, collections.deque()
    step, due = PERIOD / SLOW, time.monotonic()
    opening = time.monotonic() + SPREAD
    while not over.is_set():
        time.sleep(max(0, due - time.monotonic()))
        due += step
        if len(turn) < SLOW and len(turn) * SPREAD / SLOW <= SPREAD - (opening - time.monotonic()):
            turn.append(slow(port))
            selector.register(turn[-1], selectors.EVENT_READ)
        if len(turn) == SLOW and not ready.is_set():
            ready.set()
        for key, _ in selector.select(0):
            selector.unregister(key.fileobj)
            turn.remove(key.fileobj)
            key.fileobj.close()
            ended += 1
            turn.append(slow(port))
            selector.register(turn[-1], selectors.EVENT_READ)
        if turn:
            with contextlib.suppress(OSError):
                turn[0].send(b"x-a: b\r\n")
            turn.rotate(-1)
    print(f"crowd: {len(idle)} idle, {SLOW} slow heads, {ended} of those ended by the proxy and come again")


def main():
    """Measures and prints."""
    root = pathlib.Path(__file__).resolve().parents[2]
    binary = sys.argv[1] if len(sys.argv) > 1 else root / "target/release/weir"
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 15
    if raise_file_limit() < 4 * (IDLE + SLOW) / 3:
        raise Unfit("the limit of open files is too low for the crowd")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        answer = "routes: [{ respond: { body: here } }]\n"
        _, upstream = stack.enter_context(weir(binary, folder, "upstream", answer))
        sections = f"upstreams: {{ one: {{ endpoints: ['127.0.0.1:{upstream}'] }} }}\nroutes: [{{ upstream: one }}]\n"
        process, port = stack.enter_context(weir(binary, folder, "proxy", sections))
        latencies(port, 2)
        found = {"before": latencies(port, seconds)}
        ready, over = multiprocessing.Event(), multiprocessing.Event()
        others = multiprocessing.Process(target=crowd, args=(port, ready, over))
        others.start()
        try:
            if not ready.wait(120):
                raise Unfit("the crowd did not come together")
            found["beside the crowd"] = latencies(port, seconds)
        finally:
            over.set()
            others.join(30)
            others.kill()
        found["after"] = latencies(port, seconds)
        memory = pathlib.Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
    for what, sample in found.items():
        p50, p99 = (sample[int(len(sample) * part)] for part in (0.5, 0.99))
        print(f"{what}: {len(sample)} requests at {PER_SECOND}/s, p50 {p50:.3f} ms, p99 {p99:.3f} ms")
    ratio = found["beside the crowd"][int(len(sample) * 0.99)] / found["before"][int(len(sample) * 0.99)]
    print(f"p99 beside the crowd is {ratio:.2f} times that before; most memory of the proxy: {int(memory) >> 10} MiB")


if __name__ == "__main__":
    try:
        main()
    except Unfit as why:
        sys.exit(str(why))
