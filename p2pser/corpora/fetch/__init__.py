"""Downloads of corpora that are free to download: complete, unpacked, with a record of their sources."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from p2pser.base.atomic import write_json
from p2pser.base.errors import CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.fetch.archives import unpack
from p2pser.corpora.fetch.download import WAITS, Item, download
from p2pser.corpora.fetch.sources import SOURCES, GitHub, Source
from p2pser.corpora.files import EXTENSIONS, LFS, files_below
from p2pser.corpora.loading import adapter

RECORD = "fetched.json"
"""The file in a corpus's folder that lists the downloaded files with their digests."""

AT_ONCE = 8
"""The number of simultaneous downloads."""

_ARCHIVES = ".archives"  # hidden, so it is not searched for recordings


@dataclass(frozen=True)
class Fetched:
    """A downloaded file: address, name, size [B], SHA-256, and the published checksum that it was verified against
    ("": none was published)."""

    url: str
    name: str
    size: int
    sha256: str
    published: str = ""


def source_of(name: str, edition: str = "") -> Source:
    """Return the source of a corpus, or of its ``edition`` (EMO-DB's 2.0).

    Raises CorpusError where it is not free to download, with the place to ask.
    """
    wanted = f"{name}:{edition}" if edition else name
    if wanted in SOURCES:
        return SOURCES[wanted]
    base = name.partition(":")[0]
    if base not in CORPORA:
        free = ", ".join(key for key in SOURCES if ":" not in key)
        raise CorpusError(f"there is no corpus {name!r} to fetch; these can be fetched: {free}")
    if base in SOURCES:
        others = ", ".join(key for key in SOURCES if key.partition(":")[0] == base)
        raise CorpusError(f"there is no {wanted} to fetch: {others} can be fetched")
    about = adapter(base).about
    raise CorpusError(f"{about.title} is not downloaded from here (licence: {about.licence}): get it from "
                      f"{about.source}, then look at it with p2pser corpus scan FOLDER --corpus {base}")


def fetch(
    source: Source,
    folder: Path,
    *,
    items: list[Item] | None = None,
    mirror: str = "",
    keep: bool = False,
    progress: Callable[[int], None] = lambda count: None,
    waits: tuple[float, ...] = WAITS,
) -> list[Fetched]:
    """Download a corpus into ``folder`` and return its files.

    Files that ``RECORD`` lists are not downloaded again; an interrupted download continues. Archives are unpacked and
    removed, git-LFS pointers replaced by the files that they stand for.

    Parameters
    ----------
    source : where the corpus is published.
    folder : where it is written; made if it is missing.
    items : the source's files, if the caller has listed them.
    mirror : another address with the publisher's paths.
    keep : whether to keep the archives.
    progress : called from several threads with the number of bytes received.
    waits : the seconds before each further try.

    Raises CorpusError where a file cannot be downloaded or is not what was published.
    """
    items = source.items(mirror, waits) if items is None else items
    before = _record(folder)
    downloads = _Downloads(source, folder, keep, progress, waits, before)
    try:
        _all(downloads.get_and_unpack, items, downloads.stopped)
        if isinstance(source, GitHub):
            pointed = _pointed(source, folder, mirror)
            _all(lambda item: downloads.get(item, folder / item.name), pointed, downloads.stopped)
    finally:
        if downloads.done != before:
            _write_record(folder, downloads.done.values())
    if not keep and (folder / _ARCHIVES).is_dir() and not any((folder / _ARCHIVES).iterdir()):
        (folder / _ARCHIVES).rmdir()
    return [downloads.done[item.name] for item in items]


class _Downloads:
    """The downloads of one corpus, from several threads."""

    def __init__(self, source: Source, folder: Path, keep: bool, progress: Callable[[int], None],
                 waits: tuple[float, ...], before: Mapping[str, Fetched]) -> None:
        self.stopped = threading.Event()
        self.done = dict(before)
        self._source, self._folder, self._keep, self._before = source, folder, keep, before
        self._progress, self._waits = progress, waits
        self._unpacked = folder.is_dir() and bool(files_below(folder, EXTENSIONS))
        self._lock = threading.Lock()

    def get(self, item: Item, target: Path) -> str:
        """Download a file to ``target`` and return its SHA-256."""
        return download(item, target, progress=self._advance, waits=self._waits, pause=self.stopped.wait)

    def get_and_unpack(self, item: Item) -> None:
        """Download a file, unless the record has it, and unpack it if it is an archive."""
        archive = item.name.lower().endswith(".zip")
        target = self._folder / _ARCHIVES / item.name if archive else self._folder / item.name
        known = self._before.get(item.name)
        if known and _same(item, known) and (self._unpacked if archive else target.is_file()):
            self._progress(known.size)
            return
        sha256 = self.get(item, target)
        size = target.stat().st_size
        if archive:
            repository = isinstance(self._source, GitHub)
            members, strip = (self._source.files, 1) if repository else ("", 0)
            unpack(target, self._folder, members=members, strip=strip)
            if not self._keep:
                target.unlink()
        with self._lock:
            self.done[item.name] = Fetched(item.url, item.name, size, sha256, item.checksum)

    def _advance(self, count: int) -> None:
        if self.stopped.is_set():
            raise CorpusError("stopped, as another file failed or the user interrupted")
        self._progress(count)


def _all(work: Callable[[Item], object], items: Iterable[Item], stopped: threading.Event) -> None:
    """Do the work on all items, several at a time; after a failure (or Ctrl-C) the others stop."""

    def unless_stopped(item: Item) -> None:
        if not stopped.is_set():
            work(item)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(unless_stopped, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopped.set()
            raise


def _pointed(source: GitHub, folder: Path, mirror: str) -> list[Item]:
    """Return the files that the git-LFS pointers below ``folder`` stand for, with the digests in the pointers."""
    items = []
    for path in files_below(folder, EXTENSIONS):
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith(LFS):
            items.append(source.lfs_item(path.relative_to(folder).as_posix(), head.decode("ascii", "replace"), mirror))
    return items


def _same(item: Item, known: Fetched) -> bool:
    """Return whether a downloaded file is still the listed one; an archive without checksum counts as the same."""
    if item.checksum.startswith("sha256:"):
        return item.checksum == f"sha256:{known.sha256}"
    return item.url == known.url and item.size in (None, known.size)


def _record(folder: Path) -> dict[str, Fetched]:
    try:
        listed = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        return {file["name"]: Fetched(**file) for file in listed}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise CorpusError(f"{folder / RECORD} is not a record of downloaded files: remove it, and all files are "
                          "downloaded again") from None


def _write_record(folder: Path, files: Iterable[Fetched]) -> None:
    document = {"files": [vars(file) for file in sorted(files, key=lambda file: file.name)]}
    write_json(folder / RECORD, document, error=CorpusError)
