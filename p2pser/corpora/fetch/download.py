"""One file from the network: resumed where it was cut off, compared with its checksum, whole or not there at all."""

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
"""How long a server may be silent [s]."""

WAITS = (1.0, 3.0, 10.0, 30.0)
"""How long to wait before each further try, after a cut or while the server is busy [s]."""

_BLOCK = 1 << 18
_BUSY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Item:
    """A file to fetch: its address, its name below the corpus's folder, its size [B] and checksum where known.

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
    """Fetch a file to ``target`` and return its SHA-256 in hexadecimal.

    What has come lies in ``target`` + ``.part`` until the file is whole and its checksum right; a later call goes on
    from there (HTTP Range; where the server cannot, or nothing says that it is still the same file, from the start).
    ``progress`` is told the bytes that came, those that were there already included, and less than 0 where they have
    to come again; what it raises ends the call, and the part stays. ``waits`` are the seconds before each further try,
    ``pause`` waits so long.

    Raises CorpusError, one sentence, where the address does not answer or the file is not what it should be.
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
    """Return how many bytes of the part serve; a part of which nothing could say that it fits is removed."""
    if not part.exists():
        return 0
    if not item.checksum and not _tag(part).exists():
        part.unlink()
        return 0
    return part.stat().st_size


def _transfer(item: Item, part: Path, progress: Callable[[int], None]) -> None:
    """Bring the part to its whole length, or raise what cut it off."""
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
        part.unlink()  # longer than the file that is there now: from the start
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
            came = 0
            while block := answer.read(_BLOCK):
                file.write(block)
                came += len(block)
                progress(len(block))
        if length is not None and came < int(length):
            raise ConnectionError(f"the connection ended after {came} of {length} bytes")
    return None


def _verified(item: Item, part: Path) -> str:
    """Return the SHA-256 of a part that is what it should be; one that is not is removed."""
    size = part.stat().st_size
    algorithm, _, expected = item.checksum.partition(":")
    wrong = None
    if item.size is not None and size != item.size:
        wrong = f"it has {size} bytes instead of {item.size}"
    elif expected and (found := digest_of(part, algorithm)) != expected.lower():
        wrong = f"its {algorithm} is {found} instead of {expected}"
    if wrong:
        part.unlink()
        _tag(part).unlink(missing_ok=True)
        raise CorpusError(f"{item.url} is not the file that was published: {wrong}; it was removed, so try again, and "
                          "if it is wrong again ask its publisher")
    return digest_of(part)


def _open(url: str, headers: dict[str, str]) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise CorpusError(f"{url} is not an address that begins with http:// or https://")
    request = urllib.request.Request(url, headers={"User-Agent": f"p2pser/{__version__}", **headers})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _wait_or_raise(
    url: str, error: Exception, wait: float | None, pause: Callable[[float], object], had: int = 0
) -> None:
    """Wait for the next try, or raise what a user can do something with: refusals at once, the rest at the end."""
    kept = f"; {had} bytes are kept, and the same command goes on from there" if had else ""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code not in _BUSY or wait is None:
            raise CorpusError(f"{url} answers {error.code} {error.reason}: it has moved, or wants something else"
                              f"{kept}") from None
    elif wait is None:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        host = urllib.parse.urlsplit(url).netloc
        raise CorpusError(f"cannot get {url} from {host} ({why}): is the network there?{kept}") from None
    pause(wait or 0.0)
