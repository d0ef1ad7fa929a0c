"""Where the corpora that may be downloaded freely are: as the publishers' own interfaces list them.

A record of Zenodo or Dataverse lists its files with sizes and checksums. A GitHub archive has no checksum; recordings
that a repository keeps in git-LFS are pointers in it, which hold their SHA-256.
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from p2pser.base.errors import CorpusError
from p2pser.corpora.fetch.download import WAITS, Item, read_json


@dataclass(frozen=True)
class Zenodo:
    """A record of Zenodo, of which the files count whose names contain the regular expression ``files``."""

    record: int
    files: str = ""
    host: str = "https://zenodo.org"

    def items(self, mirror: str = "", waits: tuple[float, ...] = WAITS[:2]) -> list[Item]:
        """Return the record's files; ``mirror`` is another address with the same paths. Raises CorpusError."""
        base = f"{mirror or self.host}/api/records/{self.record}"
        listed = _listed(read_json(base, waits=waits), ("files",), base)
        try:
            items = [Item(f"{base}/files/{urllib.parse.quote(file['key'])}/content", file["key"], int(file["size"]),
                          file["checksum"]) for file in listed]
        except (KeyError, TypeError, ValueError):
            raise CorpusError(f"{base} does not list its files as Zenodo did: download it by hand") from None
        return _wanted(items, self.files, base)


@dataclass(frozen=True)
class Dataverse:
    """A data set of a Dataverse, of which the files count whose names contain the regular expression ``files``."""

    doi: str
    host: str
    files: str = ""

    def items(self, mirror: str = "", waits: tuple[float, ...] = WAITS[:2]) -> list[Item]:
        """Return the data set's files; ``mirror`` is another address with the same paths. Raises CorpusError."""
        base = mirror or self.host
        url = f"{base}/api/datasets/:persistentId/?persistentId=doi:{self.doi}"
        listed = _listed(read_json(url, waits=waits), ("data", "latestVersion", "files"), url)
        try:
            items = [_dataverse_item(base, file) for file in listed]
        except (KeyError, TypeError, ValueError):
            raise CorpusError(f"{url} does not list its files as Dataverse did: download it by hand") from None
        return _wanted(items, self.files, url)


@dataclass(frozen=True)
class GitHub:
    """A branch of a repository on GitHub, of which the paths count that contain the regular expression ``files``."""

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
        """Return what a git-LFS pointer at ``path`` stands for; raises CorpusError where it is none."""
        said = re.search(r"^oid sha256:([0-9a-f]{64})\nsize (\d+)$", pointer, re.MULTILINE)
        if not said:
            raise CorpusError(f"{path} is a git-LFS pointer that says no SHA-256 and size: fetch again")
        url = f"{mirror or self.media}/media/{self.repository}/{self.branch}/{urllib.parse.quote(path)}"
        return Item(url, path, int(said[2]), f"sha256:{said[1]}")


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
"""What is fetched under which name; ``emodb:2.0`` is an edition of emodb, the others are corpora and their variants."""


def _dataverse_item(base: str, file: Any) -> Item:
    found = file["dataFile"]
    checksum = found.get("checksum") or {"type": "MD5", "value": found.get("md5", "")}
    algorithm = str(checksum["type"]).lower().replace("-", "")
    folder = file.get("directoryLabel", "")
    name = f"{folder}/{found['filename']}" if folder else str(found["filename"])
    return Item(f"{base}/api/access/datafile/{int(found['id'])}", name, int(found["filesize"]),
                f"{algorithm}:{checksum['value']}" if checksum["value"] else "")


def _listed(document: Any, path: tuple[str, ...], url: str) -> list[Any]:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    if not isinstance(document, list):
        raise CorpusError(f"{url} lists no files: it has moved, so download the corpus by hand")
    return document


def _wanted(items: list[Item], files: str, url: str) -> list[Item]:
    """Return the items with such names; a name that leads out of the corpus's folder is refused."""
    found = [item for item in items if re.search(files, item.name)]
    if not found:
        raise CorpusError(f"{url} has no file like {files!r} any more: download the corpus by hand")
    for item in found:
        if item.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", item.name):
            raise CorpusError(f"{url} lists {item.name!r}, which would be written outside the corpus's folder")
    return found
