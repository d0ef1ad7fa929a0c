"""``p2pser`` commands, and functions, in processes forked from the worker's forkserver, which has imported torch.

What Python starts anew takes two seconds of a processor before its first line.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from p2pser.config import Config
from p2pser.peer.launch import start_forkserver

if TYPE_CHECKING:
    from typing_extensions import Self

    from p2pser.training.learner import Learner

SLOWLY = 0.6
"""Seconds that a round takes while a test waits for something that happens in one of several rounds."""


def nothing() -> None:
    """Change nothing in the process."""


def _work(work: Callable[[], None], out: Connection, err: Connection) -> None:
    for pipe, number in ((out, 1), (err, 2)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    work()


def _main(arguments: list[str], change: Callable[[], None]) -> None:
    sys.argv = ["p2pser", *arguments]
    change()
    from p2pser.cli.main import main

    main()


def with_environment(values: dict[str, str]) -> None:
    """Set these variables."""
    os.environ.update(values)


def read_from(file: Path) -> None:
    """Have a file as standard input."""
    os.dup2(os.open(file, os.O_RDONLY), 0)


def write_in(encoding: str, file: Path) -> None:
    """Write to a file, and work in its folder, with the streams of a process whose terminal has this encoding."""
    os.chdir(file.parent)
    os.environ["PYTHONIOENCODING"] = encoding
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), 1)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)


def hold_rounds(folder: Path) -> None:
    """Stay in a round's local steps while there is a named pipe: reading it ends when its writer closes it.

    While there is a file ``slowly``, each round takes SLOWLY seconds.
    """
    from p2pser.training.learner import Learner

    plain: Callable[..., Iterator[Any]] = Learner._gradients

    @functools.wraps(plain)
    def holding(self: Learner, row: Any, round: int, *rest: Any) -> Iterator[Any]:
        with contextlib.suppress(FileNotFoundError):
            (folder / f"hold-{round}").read_bytes()
        until = time.monotonic() + SLOWLY
        while (folder / "slowly").exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield from plain(self, row, round, *rest)

    Learner._gradients = holding  # type: ignore[method-assign]


class Forked:
    """A running function, with what ``subprocess.Popen`` has of the same names; a context manager that kills it.

    work : a module's function, or a partial of one.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        start_forkserver(Config())
        context = get_context("forkserver")
        (out, its_out), (err, its_err) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        self._process: ForkServerProcess = context.Process(
            target=_work, args=(work, its_out, its_err), daemon=False)
        self._process.start()
        its_out.close()
        its_err.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(pipe.fileno()), encoding="utf-8") for pipe in (out, err))
        out.close()
        err.close()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while the command runs."""
        code: int | None = self._process.exitcode
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self._process.pid is not None and self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ends just now
                os.kill(self._process.pid, number)

    def wait(self, timeout: float) -> int:
        """Wait for the end, and return the exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (code := self.returncode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return code

    def communicate(self, timeout: float = 180.0) -> tuple[str, str]:
        """Wait for the end, and return what has not been read of the standard output and error."""
        read: dict[str, str] = {}
        threads = [threading.Thread(target=lambda name=name, stream=stream: read.update({name: stream.read()}))
                   for name, stream in (("out", self.stdout), ("err", self.stderr))]
        for thread in threads:
            thread.start()
        try:
            self.wait(timeout)
        finally:
            self._process.kill()
            for thread in threads:
                thread.join()
        return read["out"], read["err"]

    def close(self) -> None:
        """Kill the process where it still runs, and close the streams."""
        self._process.kill()
        self._process.join()
        self.stdout.close()
        self.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class Command(Forked):
    """A running command.

    Parameters
    ----------
    arguments : those of ``p2pser``.
    change : called in the new process before the command; a module's function, or a partial of one.
    """

    def __init__(self, *arguments: str, change: Callable[[], None] = nothing) -> None:
        super().__init__(functools.partial(_main, list(arguments), change))
