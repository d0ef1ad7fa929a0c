"""Crowds of outsiders: many plain TCP connections to a peer, held again and again."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

HALF_A_GREETING = b"\xff" + bytes(8) + b"\x7f"


@contextlib.contextmanager
def crowd(port: int, count: int, says: bytes = b"", slowly: bool = False) -> Iterator[list[socket.socket]]:
    """Hold so many connections to a port of this machine until the block ends; what is cut is dialled again.

    Each says ``says`` again and again; ``slowly``: a byte of it at a time.
    """
    held: list[socket.socket] = []
    over = threading.Event()

    def dial() -> None:
        turn = 0
        while not over.is_set():
            while len(held) < count and not over.is_set():
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                held.append(one)
            for one in list(held):
                if not _lives(one, says[turn % len(says):][:1] if slowly and says else says):
                    one.close()
                    held.remove(one)
            turn += 1
            over.wait(0.05)

    thread = threading.Thread(target=dial)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()
        for one in held:
            one.close()


def _lives(one: socket.socket, says: bytes) -> bool:
    try:
        if says:
            one.send(says)
        return one.recv(100) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
