"""Sources of the corpora that are free to download, through the publishers' own interfaces.

A record of Zenodo or Dataverse lists its files with sizes and checksums. A GitHub archive has no checksum; it holds
pointers, with the SHA-256, to recordings that the repository keeps in git-LFS.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from p2pser.base.errors import CorpusError
from p2pser.corpora.fetch.download import WAITS, Item, read_json


@dataclass(frozen=True)
class Zenodo:
    """A record of Zenodo: its files whose names contain a match of the regular expression ``files``."""

    record: int
    files: str = ""
    host: str = "https://zenodo.org"

    def items(self, mirror: str = "", waits: tuple[float, ...] = WAITS[:2]) -> list[Item]:
        """Return the record's files; ``mirror`` is another address with the same paths. Raises CorpusError."""
        base = f"{mirror or self.host}/api/records/{self.record}"
        return _listed(base, waits, ("files",), lambda file: Item(
            f"{base}/files/{urllib.parse.quote(file['key'])}/content", file["key"], int(file["size"]),
            file["checksum"]), self.files)


@dataclass(frozen=True)
class Dataverse:
    """A data set of a Dataverse: its files whose names contain a match of the regular expression ``files``."""

    doi: str
    host: str
    files: str = ""

    def items(self, mirror: str = "", waits: tuple[float, ...] = WAITS[:2]) -> list[Item]:
        """Return the data set's files; ``mirror`` is another address with the same paths. Raises CorpusError."""
        base = mirror or self.host
        url = f"{base}/api/datasets/:persistentId/?persistentId=doi:{self.doi}"
        return _listed(url, waits, ("data", "latestVersion", "files"), partial(_dataverse_item, base), self.files)


@dataclass(frozen=True)
class GitHub:
    """A branch of a GitHub repository: its paths that contain a match of the regular expression ``files``."""

    repository: str
    branch: str = "master"
    files: str = ""
    host: str = "https://codeload.github.com"
    media: str = "https://media.githubusercontent.com"

    def items(self, mirror: str = "", waits: tuple[float, ...] = WAITS[:2]) -> list[Item]:
        """Return the archive; ``mirror`` is another address with the same paths."""
        url = f"{mirror or self.host}/{self.repository}/zip/refs/heads/{self.branch}"
        return [Item(url, f"{self.repository.rpartition('/')[2]}-{self.branch}.zip")]

    def lfs_item(self, path: str, pointer: str, mirror: str = "") -> Item:
        """Return the file that a git-LFS pointer at ``path`` stands for; raises CorpusError where it is none."""
        fields = re.search(r"^oid sha256:([0-9a-f]{64})\nsize (\d+)$", pointer, re.MULTILINE)
        if not fields:
            raise CorpusError(f"{path} is a git-LFS pointer without SHA-256 and size: fetch again")
        url = f"{mirror or self.media}/media/{self.repository}/{self.branch}/{urllib.parse.quote(path)}"
        return Item(url, path, int(fields[2]), f"sha256:{fields[1]}")


Source = Zenodo | Dataverse | GitHub

SOURCES: dict[str, Source] = {
    "ravdess": Zenodo(1188976, r"^Audio_Speech_Actors_01-24\.zip$"),
    "ravdess:song": Zenodo(1188976, r"^Audio_Song_Actors_01-24\.zip$"),
    "ravdess:all": Zenodo(1188976, r"^Audio_(Speech|Song)_Actors_01-24\.zip$"),
    "crema-d": GitHub("CheyneyComputerScience/CREMA-D", files=(
        r"/(AudioWAV/.*\.wav|VideoDemographics\.csv|SentenceFilenames\.csv|LICENSE\.txt|README\.md|"
        r"processedResults/(summaryTable|tabulatedVotes)\.csv)$")),
    "emodb": Zenodo(7447302),
    "emodb:2.0": Zenodo(17651657),
    "tess": Dataverse("10.5683/SP2/E8H2MF", "https://borealisdata.ca", r"\.(wav|zip)$"),
    "urdu": GitHub("siddiquelatif/URDU-Dataset"),
}
"""Sources by name; ``emodb:2.0`` is an edition of emodb, the other names are corpora and their variants."""


def _dataverse_item(base: str, file: Any) -> Item:
    entry = file["dataFile"]
    checksum = entry.get("checksum") or {"type": "MD5", "value": entry.get("md5", "")}
    algorithm = str(checksum["type"]).lower().replace("-", "")
    folder = file.get("directoryLabel", "")
    name = f"{folder}/{entry['filename']}" if folder else str(entry["filename"])
    return Item(f"{base}/api/access/datafile/{int(entry['id'])}", name, int(entry["filesize"]),
                f"{algorithm}:{checksum['value']}" if checksum["value"] else "")


def _listed(url: str, waits: tuple[float, ...], path: tuple[str, ...], read: Callable[[Any], Item],
            files: str) -> list[Item]:
    """Return the files that the document at ``url`` lists under the keys ``path`` and whose names match ``files``.

    Raises CorpusError where there are none, and for a name that leads out of the corpus's folder.
    """
    document = read_json(url, waits=waits)
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    if not isinstance(document, list):
        raise CorpusError(f"{url} lists no files: it has moved, so download the corpus by hand")
    try:
        wanted = [item for item in map(read, document) if re.search(files, item.name)]
    except (KeyError, TypeError, ValueError):
        raise CorpusError(f"{url} lists its files in an unknown format: download it by hand") from None
    if not wanted:
        raise CorpusError(f"{url} has no file like {files!r} any more: download the corpus by hand")
    for item in wanted:
        if item.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", item.name):
            raise CorpusError(f"{url} lists {item.name!r}, which would be written outside the corpus's folder")
    return wanted
