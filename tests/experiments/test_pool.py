"""The processes that compute trials."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from multiprocessing import get_context
from multiprocessing.connection import Connection

from p2pser.config import Config
from p2pser.experiments import pool
from p2pser.peer.launch import start_forkserver


def _worker(pipe: Connection) -> None:
    """Start a worker as the pool does, and tell its process id; it would wait for ever."""
    get_context("fork").Process(target=_wait, args=(pipe,)).start()
    os.kill(os.getpid(), signal.SIGKILL)


def _wait(pipe: Connection) -> None:
    pool._start_worker()
    pipe.send(os.getpid())
    threading.Event().wait()


def test_workers_end_with_the_process_that_is_killed():
    start_forkserver(Config())
    context = get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    with here:
        parent = context.Process(target=_worker, args=(there,))
        parent.start()
        there.close()
        parent.join()
        assert parent.exitcode == -signal.SIGKILL
        with contextlib.suppress(EOFError):  # it may end before it tells
            worker = here.recv()
            try:
                assert here.poll(60)  # the pipe's other end closes with the worker, its last holder
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
