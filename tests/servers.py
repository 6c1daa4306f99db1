"""Servers of other programs on a free port of this machine, for as long as a test needs them."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


def free_ports(number: int) -> list[int]:
    """Return so many different ports that nobody listens on now."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in opened:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in opened]


@contextmanager
def served(*command: str, patience_s: float = 10.0) -> Iterator[int]:
    """Run a command, whose words may hold {port}; yield the port when something listens there, and end it after."""
    (port,) = free_ports(1)
    words = [word.format(port=port) for word in command]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_it_listens(server, port, patience_s)
        yield port
    finally:
        server.terminate()
        server.wait()


def wait_until_it_listens(server: subprocess.Popen[bytes], port: int, patience_s: float) -> None:
    """Return once something listens on a port; AssertionError when the server has ended, or takes longer."""
    deadline = time.monotonic() + patience_s
    while not _listens(port):
        assert server.poll() is None, f"{server.args} ended with {server.returncode} and never listened"
        assert time.monotonic() < deadline, f"{server.args} did not listen within {patience_s:.0f} s"
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
