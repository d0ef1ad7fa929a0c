"""The errors that p2pser raises deliberately, each with its exit code.

Every message is one sentence that states what is wrong, where, and what to do.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator


class P2PSERError(Exception):
    """The base class: a run has failed for a known reason."""

    exit_code = 1


class ConfigError(P2PSERError):
    """A setting, an option or a run file is wrong."""

    exit_code = 2


class CorpusError(P2PSERError):
    """Recordings, labels, manifests, splits or features are wrong."""

    exit_code = 2


class TopologyError(P2PSERError):
    """A topology file or a graph is not usable."""

    exit_code = 2


class ModelError(P2PSERError):
    """A model's name, its directory or its rows do not fit."""

    exit_code = 2


class CheckpointError(P2PSERError):
    """A checkpoint could not be written or read; the previous one stays."""

    exit_code = 2


class ProtocolError(P2PSERError):
    """The base class of errors between two peers."""


class LocalProtocolError(ProtocolError):
    """This process has violated the protocol: a bug."""


class RemoteProtocolError(ProtocolError):
    """Another peer has violated the protocol; ``peer`` is its id, if known."""

    def __init__(self, message: str, peer: int | None = None) -> None:
        super().__init__(message)
        self.peer = peer


class RefusedError(ProtocolError):
    """The neighbours and this peer do not fit (keys, settings, topology, model or labels)."""

    exit_code = 2


@contextlib.contextmanager
def raised_as(kind: type[P2PSERError], sentence: str) -> Iterator[None]:
    """Raise what the code of a plug-in raises, whatever it is, as an error of this kind: the sentence, and the reason.

    An error of p2pser's passes as it is.
    """
    try:
        yield
    except P2PSERError:
        raise
    except Exception as error:
        raise kind(f"{sentence} ({type(error).__name__}: {error})") from error


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE)
"""Errors of the system that end a run with exit code 1; other errors of a file mean that the call names a wrong one."""


def unwritable(kind: type[P2PSERError], message: str, reason: OSError | ValueError) -> P2PSERError:
    """Return an error of this kind about a place that cannot be written, with exit code 1 where the disk is full: the
    call is right then, and a service manager should try it again."""
    error = kind(message)
    if getattr(reason, "errno", None) in FULL:
        error.exit_code = P2PSERError.exit_code
    return error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` for the known name nearest to ``name``, or ``"; known: …"``."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


LONGEST = 800
"""Characters of the longest sentence that is printed."""


def printable(text: str, most: int = 1000) -> str:
    """Return another peer's text with at most ``most`` characters, all printable: safe for terminals and logs."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def in_one_line(message: object, most: int = LONGEST) -> str:
    """Return a message as one printable line of limited length: it may quote a user's input or a file of any length."""
    words = " ".join(str(message).split())
    line = printable(words, len(words))
    return line if len(line) <= most else f"{line[:most // 2]} … {line[-most // 2:]}"
