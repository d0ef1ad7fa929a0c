"""Writing what a peer must not lose: while the disk is full or read-only, the write is repeated."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from p2pser.base.errors import P2PSERError
from p2pser.base.paths import existing
from p2pser.peer.reporter import Reporter

PATIENCE, RETRY = 60.0, 3.0
"""How long a peer tries to write something, and the time between two attempts [s]."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Disk:
    """Writes, and repeats a write that fails for ``PATIENCE`` seconds.

    Parameters
    ----------
    me : the peer's id.
    reporter : reports that the peer waits, and why.
    pause : waits for some seconds; may raise an exception, which ends the wait.
    clock : returns the time [s].
    """

    def __init__(self, me: int, reporter: Reporter, pause: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._me, self._reporter, self._pause, self._clock = me, reporter, pause, clock
        self.waits = False
        """Whether the last write has not succeeded yet."""

    def write(self, what: str, path: Path, size: int, do: Callable[[], None]) -> None:
        """Call ``do``, which writes ``what`` of about ``size`` bytes at ``path``, until it raises no OSError.

        Raises P2PSERError where it still does after ``PATIENCE`` seconds.
        """
        until, last_reason = None, ""
        while True:
            try:
                do()
            except OSError as error:
                reason = _reason(error, path, size)
            else:
                self.waits = False
                if last_reason:
                    self._reporter.tell("written", f"peer {self._me} has written {what} at {path}", path=str(path))
                return
            self.waits = True
            now = self._clock()
            until = now + PATIENCE if until is None else until
            if now >= until:
                raise P2PSERError(f"peer {self._me} could not write {what} at {path} for {PATIENCE:g} s: {reason}; "
                                  "make room there and start it again with the same command: it goes on from what it "
                                  "has kept, or takes the model from a neighbour that has finished")
            if reason != last_reason:
                last_reason = reason
                self._reporter.tell("unwritten", f"peer {self._me} cannot write {what} at {path}: {reason}; it tries "
                                    f"again for {until - now:.0f} s: make room there", path=str(path), reason=reason)
            self._pause(min(RETRY, until - now))


def _reason(error: OSError, path: Path, size: int) -> str:
    """Return why a file cannot be written, with the bytes needed and free where the disk is full."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        try:
            free = shutil.disk_usage(existing(path)).free
        except OSError:
            return reason
        reason += f" (about {size:,} bytes are needed, {free:,} are free)"
    return reason
