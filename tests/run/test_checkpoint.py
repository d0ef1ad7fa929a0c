"""Checkpoints: whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
import safetensors.torch
import torch
from commands import Forked
from torch import Tensor

from p2pser.base import atomic
from p2pser.base.errors import CheckpointError
from p2pser.run import checkpoint

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


def bits(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    flat = tensor.detach().contiguous().reshape(-1)
    return tensor.dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def all_bits(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: bits(tensor) for name, tensor in tensors.items()}


def state(round: int) -> tuple[dict[str, Tensor], dict[tuple[int, int], dict[str, Tensor]], dict[str, Any]]:
    generator = torch.Generator().manual_seed(round)
    x = torch.randn(1, 50, generator=generator)
    return (
        {"x": x, "momentum": x.double() / 3},
        {(3, 2): {"own": x[0]}, (3, 4): {}},
        {"round": round, "loss": 0.1, "seen": [1, 2]},
    )


def save(folder: Path, round: int) -> Path:
    return checkpoint.save(folder, round, *state(round))


def check(folder: Path, round: int) -> None:
    rows, edges, meta = state(round)
    got = checkpoint.load(folder, round)
    assert all_bits(got.rows) == all_bits(rows)
    assert {edge: all_bits(tensors) for edge, tensors in got.edges.items()} == {
        edge: all_bits(tensors) for edge, tensors in edges.items()
    }
    assert got.meta == meta


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    size = torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 256, (24 * size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    rows = {
        "values": (raw % 2).bool()[:24] if dtype is torch.bool else raw.view(dtype),
        "matrix": torch.ones(3, 4, dtype=dtype),
        "transposed": torch.ones(3, 4, dtype=dtype).t(),
        "empty": torch.empty(0, 5, dtype=dtype),
        "scalar": torch.ones((), dtype=dtype),
        "a/strange, name ü": torch.zeros(1, dtype=dtype),
    }
    edges = {(0, 1): rows, (0, 12): {}}
    checkpoint.save(tmp_path, 7, rows, edges, {})
    back = checkpoint.load(tmp_path, 7)
    assert all_bits(back.rows) == all_bits(rows)
    assert list(back.edges) == list(edges)
    assert all_bits(back.edges[0, 1]) == all_bits(rows)


def test_a_file_is_one_of_safetensors(tmp_path: Path) -> None:
    rows = {"b": torch.tensor([1, 2], dtype=torch.int8), "a": torch.tensor([[1.5, 2.5]], dtype=torch.float64)}
    path = checkpoint.save(tmp_path, 3, rows, {}, {})
    read = safetensors.torch.load_file(path / "rows.safetensors")
    assert {name: tensor.tolist() for name, tensor in read.items()} == {"a": [[1.5, 2.5]], "b": [1, 2]}
    with pytest.raises(CheckpointError, match="cannot be stored in a checkpoint: a tensor of torch"):
        checkpoint.save(tmp_path, 4, {"x": torch.zeros(2, dtype=torch.complex128)}, {}, {})


def test_not_finite_and_negative_zero_stay_as_they_are(tmp_path: Path) -> None:
    row = torch.tensor([float("nan"), float("inf"), -0.0, 5e-324], dtype=torch.float64)
    checkpoint.save(tmp_path, 0, {"x": row}, {}, {"loss": float("inf")})
    rows, _, meta = checkpoint.load(tmp_path, 0)
    assert bits(rows["x"]) == bits(row)
    assert meta == {"loss": float("inf")}


def test_rows_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    checkpoint.save(tmp_path, 0, {"a": matrix[0], "b": matrix[1], "all": matrix}, {}, {})
    rows = checkpoint.load(tmp_path, 0).rows
    rows["all"].zero_()
    assert torch.equal(rows["b"], matrix[1])


def test_checkpoints_are_listed_and_pruned(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    assert checkpoint.available(folder) == []
    assert save(folder, 10).name == "round-000010"
    for round in (0, 5, 1_234_567):
        save(folder, round)
    assert checkpoint.available(folder) == [0, 5, 10, 1_234_567]
    assert checkpoint.prune(folder, 2, {0}) == [5]
    assert checkpoint.available(folder) == [0, 10, 1_234_567]
    aside = checkpoint.set_aside(folder, [1_234_567])
    assert [path.name for path in aside] == ["aside-1234567.0"]
    assert checkpoint.available(folder) == [0, 10]
    check(folder, 10)
    with pytest.raises(CheckpointError, match="keep = 0"):
        checkpoint.prune(folder, 0)
    with pytest.raises(CheckpointError, match="no checkpoint of round 5"):
        checkpoint.load(folder, 5)


def test_a_round_saved_again_replaces_the_first(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 5, {"x": torch.zeros(2)}, {}, {"first": True})
    for _ in range(3):
        save(tmp_path, 5)
    check(tmp_path, 5)
    assert len(list(tmp_path.iterdir())) == 1


def damage(path: Path) -> list[Callable[[], object]]:
    """Ways in which one file may have suffered."""
    data = path.read_bytes()
    middle = len(data) // 2
    return [
        lambda: path.write_bytes(data[:middle]),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(data + b" x"),
        lambda: path.write_bytes(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]),
        path.unlink,
    ]


@pytest.mark.parametrize("way", range(5))
@pytest.mark.parametrize("name", ["rows.safetensors", "edges.safetensors", "meta.json"])
def test_a_damaged_checkpoint_is_none(name: str, way: int, tmp_path: Path) -> None:
    save(tmp_path, 5)
    damage(save(tmp_path, 10) / name)[way]()
    assert checkpoint.available(tmp_path) == [5]
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path, 10)
    check(tmp_path, 5)
    # And it is in nobody's way.
    save(tmp_path, 10)
    assert checkpoint.available(tmp_path) == [5, 10]
    check(tmp_path, 10)


def test_a_damaged_one_does_not_count_as_kept(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (save(tmp_path, 10) / "meta.json").unlink()
    assert checkpoint.prune(tmp_path, 1) == [10]
    assert checkpoint.available(tmp_path) == [5]


@pytest.mark.parametrize("meta", ["[]", "{}", '{"format": "1"}', '{"format": 1, "digest": 3, "files": []}', "\x00"])
def test_any_other_meta_is_damage(meta: str, tmp_path: Path) -> None:
    (save(tmp_path, 5) / "meta.json").write_text(meta)
    assert checkpoint.available(tmp_path) == []
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path, 5)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 5) / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": checkpoint.FORMAT + 1}))
    assert checkpoint.available(tmp_path) == []
    with pytest.raises(CheckpointError, match="newer version"):
        checkpoint.load(tmp_path, 5)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write the checkpoint of round 3"):
        save(tmp_path / "file", 3)


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    save(tmp_path, 0)
    with pytest.raises(CheckpointError, match="round 5 cannot be stored"):
        checkpoint.save(tmp_path, 5, {}, {}, {"bad": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["round-000000"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_at_any_call_leaves_the_old_ones(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 5)
    real = getattr(os, call)
    seen, fail_at = 0, 0

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen - 1 == fail_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    failures = 0
    while True:
        seen = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                save(tmp_path, 10)
            except CheckpointError as error:
                failures += 1
                message = str(error)
            else:
                break
        assert "No space left on device" in message
        assert "round 10" in message
        check(tmp_path, 5)
        leftovers = {path.name for path in tmp_path.iterdir()} - {"round-000005", "round-000010", "round-000010.1"}
        assert not leftovers
        checkpoint.set_aside(tmp_path, [10])
        checkpoint.remove_set_aside(tmp_path)
        fail_at += 1
    assert failures == {"fsync": 5, "rename": 1}[call]
    check(tmp_path, 10)


def test_what_is_set_aside_is_kept_whole_until_the_run_has_finished(tmp_path: Path) -> None:
    for _ in range(2):  # a round that is set aside twice is kept twice
        save(tmp_path, 10)
        checkpoint.set_aside(tmp_path, [10, 20])
    save(tmp_path, 5)
    checkpoint.prune(tmp_path, 1)
    aside = [tmp_path / "aside-000010.0", tmp_path / "aside-000010.1"]
    assert sorted(tmp_path.glob("aside-*")) == aside
    assert checkpoint.available(tmp_path) == [5]
    aside[1].rename(tmp_path / "round-000010")  # a person takes it back
    check(tmp_path, 10)
    checkpoint.remove_set_aside(tmp_path)
    assert not aside[0].exists()
    check(tmp_path, 10)


def save_on_a_full_disk(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        checkpoint.save(folder, 10, {"x": torch.zeros(100_000)}, {}, {})
    except CheckpointError as error:
        print(error)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """In a child whose files may not grow beyond 4 KiB."""
    save(tmp_path, 5)
    with Forked(partial(save_on_a_full_disk, tmp_path)) as child:
        out, err = child.communicate()
    assert child.returncode == 0, err
    assert "cannot write the checkpoint of round 10" in out
    assert out.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["round-000005"]
    check(tmp_path, 5)


ROWS = {round: torch.full((50,), float(round)) for round in (0, 5, 10)}


def save_row(folder: Path, round: int) -> None:
    checkpoint.save(folder, round, {"x": ROWS[round]}, {(1, 2): {"own": ROWS[round]}}, {"round": round})


def dies(folder: Path, moment: int) -> bool:
    """Save and prune in a child that is killed before so many file operations; return whether it was."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = moment

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        touches = event in ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "shutil.rmtree")
        if touches and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        save_row(folder, 5)
        save_row(folder, 10)
        checkpoint.prune(folder, 2)
    finally:
        os._exit(0)


def die_at_every_moment(folder: Path) -> None:
    for round in (0, 5):
        save_row(folder / "template", round)
    moment = 0
    while True:
        shutil.copytree(folder / "template", folder / f"run-{moment}")
        if not dies(folder / f"run-{moment}", moment):
            return
        moment += 1


def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path) -> None:
    """A process saves round 5 again, then round 10, then prunes; it dies before each of its file operations."""
    # Forks, but of a process of its own: this one has threads.
    with Forked(partial(die_at_every_moment, tmp_path)) as child:
        _, err = child.communicate()
    assert child.returncode == 0, err
    runs = list(tmp_path.glob("run-*"))
    assert len(runs) > 20
    found = set()
    for folder in runs:
        rounds = checkpoint.available(folder)
        found.add(tuple(rounds))
        for round in rounds:
            rows, edges, meta = checkpoint.load(folder, round)
            row = torch.full((50,), float(round))
            assert torch.equal(rows["x"], row)
            assert torch.equal(edges[1, 2]["own"], row)
            assert meta == {"round": round}
        save(folder, 15)
        assert checkpoint.available(folder) == [*rounds, 15]
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert found == {(0, 5), (0, 5, 10), (5, 10)}


def test_checkpoints_outlast_a_moment_without_descriptors(tmp_path: Path,
                                                          no_descriptors: Callable[[float], None]) -> None:
    """Outsiders who connect can hold all descriptors: nothing is taken for damaged then, and nothing is removed."""
    for round in (3, 5):
        no_descriptors(0.2)
        save(tmp_path, round)
    no_descriptors(0.2)
    assert checkpoint.prune(tmp_path, keep=2) == []
    no_descriptors(0.2)
    check(tmp_path, 5)


def test_a_checkpoint_that_cannot_be_opened_for_a_moment_is_not_damaged(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    for round in (3, 5):
        save(tmp_path, round)
    checkpoint._sound.clear()  # a peer that was started again has verified none
    real, failures = atomic.opened, [errno.EMFILE, errno.ENFILE]

    def opened(path: Path) -> IO[bytes]:
        if path.name == "meta.json" and failures:
            raise OSError(failures.pop(), "none free")
        return real(path)

    monkeypatch.setattr(atomic, "opened", opened)
    assert checkpoint.prune(tmp_path, keep=2) == []
    assert not failures
    check(tmp_path, 3)
