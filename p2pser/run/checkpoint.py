"""Checkpoints: one directory per round, written whole or not at all.

``folder/round-000010/`` holds ``rows.safetensors``, ``edges.safetensors`` and ``meta.json`` with the digests
of both and its own. A new checkpoint is written under another name, synced to disk and renamed, so that a killed
process or a full disk leaves the older ones intact. An incomplete checkpoint is not read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from p2pser.base.atomic import PARTIAL, new_folder, patient, read
from p2pser.base.errors import CheckpointError
from p2pser.wire.messages import Buffer

FORMAT = 1
"""Version of the layout; a newer one is refused."""

_ROWS, _EDGES, _META = "rows.safetensors", "edges.safetensors", "meta.json"
# A round that is saved again becomes round-N.1 (then .2, …) before round-N is removed, so that one is always complete.
_NAME = re.compile(r"round-(\d{6,12})(?:\.(\d{1,6}))?")
_ASIDE = "aside-"
_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""The names of dtypes in safetensors files."""

Edges: TypeAlias = Mapping[tuple[int, int], Mapping[str, Tensor]]
"""Tensors by edge (i, j) and name."""
_sound: dict[Path, tuple[tuple[int, int, int], ...]] = {}
"""Verified checkpoints and their stamps at that time, so that pruning does not read all of them again."""


class Checkpoint(NamedTuple):
    """The content of a checkpoint, bit for bit."""

    rows: dict[str, Tensor]
    edges: dict[tuple[int, int], dict[str, Tensor]]
    meta: dict[str, Any]


def save(folder: Path, round: int, rows: Mapping[str, Tensor], edges: Edges, meta: Mapping[str, Any]) -> Path:
    """Write a checkpoint as ``write`` does. Raises CheckpointError where it cannot be written; older ones stay."""
    try:
        return write(folder, round, rows, edges, meta)
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint of round {round} in {folder}: {error.strerror or error}; "
                              "make room there, the checkpoint before it stays") from None


@patient
def write(folder: Path, round: int, rows: Mapping[str, Tensor], edges: Edges, meta: Mapping[str, Any]) -> Path:
    """Write a checkpoint, readable by this user only, and return its directory.

    Parameters
    ----------
    folder : the peer's folder of checkpoints.
    round : 0 or more.
    rows, edges : tensors of any dtype and shape, kept bit for bit.
    meta : plain data for JSON.

    Raises OSError where the disk does not take it, CheckpointError where its content cannot be stored; older
    checkpoints stay.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clean(folder)
    older = _generations(folder, round)
    path = folder / (f"round-{round:06d}" + (f".{older[0][0] + 1}" if older else ""))
    try:
        with new_folder(path, private=True) as partial:
            document: dict[str, Any] = {
                "format": FORMAT, "round": round, "edges": [list(edge) for edge in edges], "meta": dict(meta),
                "files": {name: _pack(partial / name, tensors)
                          for name, tensors in ((_ROWS, rows), (_EDGES, _flat(edges)))}}
            document["digest"] = _digest(_canonical(document))
            (partial / _META).write_text(json.dumps(document))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the state of round {round} cannot be stored in a checkpoint: {error}") from None
    _sound[path] = _stamp(path)
    for _, old in older:
        _remove(old)
    return path


@patient
def available(folder: Path) -> list[int]:
    """Return the rounds that have a complete checkpoint with the right digests, ascending."""
    return sorted({round for round, _, path in _entries(folder) if _valid(path)})


def written_at(folder: Path) -> float | None:
    """Return when the newest checkpoint was written, in seconds since the epoch; None: there is none."""
    return max((path.stat().st_mtime for _, _, path in _entries(folder)), default=None)


@patient
def load(folder: Path, round: int) -> Checkpoint:
    """Return the checkpoint of ``round``. Raises CheckpointError where it is missing, damaged or of a newer version."""
    generations = [path for _, path in _generations(folder, round)]
    if not generations:
        raise CheckpointError(f"there is no checkpoint of round {round} in {folder}")
    return _read(next(filter(_valid, generations), generations[0]))


@patient
def prune(folder: Path, keep: int, pinned: Collection[int] = ()) -> list[int]:
    """Remove all checkpoints except the newest ``keep`` (>= 1) complete ones and those of the ``pinned`` rounds.

    Returns the removed rounds. Files that cannot be removed are ignored.
    """
    if keep < 1:
        raise CheckpointError(f"keep = {keep}: at least one checkpoint must be kept")
    kept = {*available(folder)[-keep:], *pinned}
    removed = set()
    for round, _, path in list(_entries(folder)):
        if round not in kept:
            _remove(path)
            removed.add(round)
    return sorted(removed)


def set_aside(folder: Path, rounds: Collection[int]) -> list[Path]:
    """Rename the checkpoints of ``rounds``, so that they are no longer read or replaced; return their new names."""
    moved = []
    for round, generation, path in sorted(_entries(folder)):
        if round in rounds:
            names = (folder / f"{_ASIDE}{round:06d}.{number}" for number in itertools.count(generation))
            aside = next(name for name in names if not name.exists())
            os.rename(path, aside)
            _sound.pop(path, None)
            moved.append(aside)
    return moved


def remove_set_aside(folder: Path) -> None:
    """Remove the checkpoints that were set aside."""
    for path in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(path, ignore_errors=True)


def _flat(edges: Edges) -> dict[str, Tensor]:
    return {f"{i},{j},{name}": tensor for (i, j), state in edges.items() for name, tensor in state.items()}


def _pack(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a file of safetensors, and return its digest.

    Tensors are written without a copy. The safetensors library would make three copies first, in calls that block all
    other threads, including the I/O thread. Raises ValueError for a dtype that its format lacks.
    """
    if unknown := {tensor.dtype for tensor in tensors.values()} - _DTYPES.keys():
        raise ValueError(f"a tensor of {unknown.pop()}")
    entries: dict[str, Any] = {}
    # The widest dtype first, as in safetensors' own files, so that all tensors are aligned.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    hasher = hashlib.blake2b(digest_size=16)
    parts: list[Buffer] = [len(header).to_bytes(8, "little"), header, *(_octets(tensor) for _, tensor in ordered)]
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            hasher.update(part)
    return hasher.hexdigest()


def _octets(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _read(path: Path) -> Checkpoint:
    document, contents = _verified(path)
    try:
        rows = safetensors.torch.load(contents[_ROWS])
        edges: dict[tuple[int, int], dict[str, Tensor]] = {(i, j): {} for i, j in document["edges"]}
        for key, tensor in safetensors.torch.load(contents[_EDGES]).items():
            i, j, name = key.split(",", 2)
            edges[int(i), int(j)][name] = tensor
        return Checkpoint(rows, edges, document["meta"])
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise _damaged(path) from None


def _verified(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return meta.json and the files of a checkpoint whose digests are right."""
    try:
        document = json.loads(read(path / _META))
        if not isinstance(document, dict) or not isinstance(document.get("format"), int):
            raise _damaged(path)
        if document["format"] > FORMAT:
            raise CheckpointError(f"the checkpoint {path} has format {document['format']}, this version reads up to "
                                  f"{FORMAT}; use the newer version of p2pser")
        digest = document.pop("digest", None)
        contents = {name: read(path / name) for name in (_ROWS, _EDGES)}
    except (OSError, ValueError):
        raise _damaged(path) from None
    files = {name: _digest(data) for name, data in contents.items()}
    if digest != _digest(_canonical(document)) or document.get("files") != files:
        raise _damaged(path)
    return document, contents


def _valid(path: Path) -> bool:
    try:
        stamp = _stamp(path)
        if _sound.get(path) != stamp:
            _verified(path)
            _sound[path] = stamp
    except (CheckpointError, OSError):
        return False
    return True


def _stamp(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Return inode, size and modification time of each file of a checkpoint."""
    stats = [os.stat(path / name) for name in (_ROWS, _EDGES, _META)]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"the checkpoint {path} is damaged or incomplete; remove it, and an older one is used")


def _entries(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield (round, generation, directory) of everything that is named like a checkpoint."""
    if folder.is_dir():
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield int(match[1]), int(match[2] or 0), path


def _generations(folder: Path, round: int) -> list[tuple[int, Path]]:
    """Return (generation, directory) of a round, the newest first."""
    return sorted(((g, path) for r, g, path in _entries(folder) if r == round), reverse=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that a half-removed checkpoint is not read."""
    doomed = path.with_name(f"{PARTIAL}{path.name}")
    _sound.pop(path, None)
    try:
        os.rename(path, doomed)
    except OSError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def _clean(folder: Path) -> None:
    """Remove half-written and half-removed checkpoints of a killed process."""
    for path in folder.glob(f"{PARTIAL}round-*"):
        shutil.rmtree(path, ignore_errors=True)


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
