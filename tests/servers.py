"""Servers of other programs on a free port of this machine, for as long as a test needs them."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(*command: str, patience_s: float = 10.0) -> Iterator[int]:
    """Run a command, whose words may hold {port}; yield the port when something listens there, and end it after."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    words = [word.format(port=port) for word in command]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + patience_s
        while not _listens(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
