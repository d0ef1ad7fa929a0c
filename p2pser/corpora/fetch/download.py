"""Download of one file: resumed after an interruption, verified by its checksum, complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pser.base import atomic
from p2pser.base.errors import CorpusError
from p2pser.base.version import __version__

TIMEOUT = 60.0
"""The longest silence of a server [s]."""

WAITS = (1.0, 3.0, 10.0, 30.0)
"""Waits before each further try, after an interruption or while the server is busy [s]."""

_BLOCK = 1 << 18
_BUSY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Item:
    """A file to download: address, name below the corpus's folder, size [B] and checksum where they are known.

    ``checksum`` is ``algorithm:digest`` in hexadecimal, as Zenodo writes it (``md5:…``).
    """

    url: str
    name: str
    size: int | None = None
    checksum: str = ""


def read_json(url: str, *, waits: tuple[float, ...] = WAITS) -> Any:
    """Return the JSON document at an address; raises CorpusError where there is none."""
    for wait in (*waits, None):
        try:
            with _open(url, {}) as answer:
                return json.load(answer)
        except ValueError:
            raise CorpusError(f"{url} answers with something that is not JSON: is the address right?") from None
        except (OSError, http.client.HTTPException) as error:
            _wait_or_raise(url, error, wait, time.sleep)
    raise AssertionError("the last try has no wait, so it ended the loop")


def download(
    item: Item,
    target: Path,
    *,
    progress: Callable[[int], None] = lambda count: None,
    waits: tuple[float, ...] = WAITS,
    pause: Callable[[float], object] = time.sleep,
) -> str:
    """Download a file to ``target`` and return its SHA-256 in hexadecimal.

    The received bytes are kept in ``target`` + ``.part`` until the file is complete and its checksum correct; a later
    call continues from there (HTTP Range), or starts again where the server does not support it or nothing shows
    that the file is still the same.

    Parameters
    ----------
    item : the file.
    target : where it is written.
    progress : called with the number of bytes received, those of an earlier call included; with a negative number where
        they must be received again. An exception that it raises ends the call, and the part is kept.
    waits : the seconds before each further try.
    pause : waits for that long.

    Raises CorpusError where the address does not answer or the file is not the published one.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        had = _resumable(item, part)
        progress(had)
        for wait in (*waits, None):
            try:
                _transfer(item, part, progress)
                break
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                _wait_or_raise(item.url, error, wait, pause, part.stat().st_size if part.exists() else 0)
        digest = _verified(item, part)
        atomic.move(part, target)
        _tag(part).unlink(missing_ok=True)
    except OSError as error:
        raise CorpusError(f"cannot write {error.filename or target}: {error.strerror or error}") from None
    return digest


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Return a file's digest in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.new(algorithm)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _resumable(item: Item, part: Path) -> int:
    """Return the number of usable bytes of the part; a part that nothing could verify later is removed."""
    if not part.exists():
        return 0
    if not item.checksum and not _tag(part).exists():
        part.unlink()
        return 0
    return part.stat().st_size


def _transfer(item: Item, part: Path, progress: Callable[[int], None]) -> None:
    """Complete the part, or raise the error that interrupted the transfer."""
    had = part.stat().st_size if part.exists() else 0
    if item.size is not None and had == item.size:
        return None
    headers = {"Range": f"bytes={had}-"} if had else {}
    with contextlib.suppress(OSError):
        if had:
            headers["If-Range"] = _tag(part).read_text(encoding="ascii")
    try:
        answer = _open(item.url, headers)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not had:
            raise
        error.close()
        part.unlink()  # longer than the file that the server has now: start again
        progress(-had)
        return _transfer(item, part, progress)
    with answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {had}-")
        if had and not goes_on:
            progress(-had)
        tag = answer.headers.get("ETag", "")
        if tag and not tag.startswith("W/") and tag.isascii():
            _tag(part).write_text(tag, encoding="ascii")
        with part.open("ab" if goes_on else "wb") as file:
            length = answer.headers.get("Content-Length")
            received = 0
            while block := answer.read(_BLOCK):
                file.write(block)
                received += len(block)
                progress(len(block))
        if length is not None and received < int(length):
            raise ConnectionError(f"the connection ended after {received} of {length} bytes")
    return None


def _verified(item: Item, part: Path) -> str:
    """Return the SHA-256 of a part with the right size and checksum; a wrong part is removed."""
    size = part.stat().st_size
    algorithm, _, expected = item.checksum.partition(":")
    wrong = None
    if item.size is not None and size != item.size:
        wrong = f"it has {size} bytes instead of {item.size}"
    elif expected and (digest := digest_of(part, algorithm)) != expected.lower():
        wrong = f"its {algorithm} is {digest} instead of {expected}"
    if wrong:
        part.unlink()
        _tag(part).unlink(missing_ok=True)
        raise CorpusError(f"{item.url} is not the published file: {wrong}; it was removed, so try again, and if it is "
                          "wrong again ask its publisher")
    return digest_of(part)


def _open(url: str, headers: dict[str, str]) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise CorpusError(f"{url} is not an address that begins with http:// or https://")
    request = urllib.request.Request(url, headers={"User-Agent": f"p2pser/{__version__}", **headers})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _wait_or_raise(
    url: str, error: Exception, wait: float | None, pause: Callable[[float], object], had: int = 0
) -> None:
    """Wait for the next try, or raise a CorpusError: for refusals at once, for other errors after the last try."""
    kept = f"; {had} bytes are kept, and the same command continues from there" if had else ""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code not in _BUSY or wait is None:
            raise CorpusError(f"{url} answers {error.code} {error.reason}: it has moved, or access is refused"
                              f"{kept}") from None
    elif wait is None:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        host = urllib.parse.urlsplit(url).netloc
        raise CorpusError(f"cannot get {url} from {host} ({why}): is there a network connection?{kept}") from None
    pause(wait or 0.0)
