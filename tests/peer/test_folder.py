"""A peer's folder: whose it is, how often it was started, and what --fresh removes."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from commands import Forked

from p2pser.base.errors import CheckpointError, ConfigError
from p2pser.config import Config
from p2pser.graph.spec import load
from p2pser.peer.folder import DRAWS, REMOVED_BY_FRESH, SUMS, PeerFolder
from p2pser.peer.names import LOCK, RUN, STARTS
from p2pser.peer.telemetry import EVENTS, METRICS


def folder(tmp_path: Path, *settings: str, topology: str = "ring", me: int = 1) -> PeerFolder:
    config = Config().with_settings([f"peer.out={tmp_path}", *settings])
    return PeerFolder(config, load(topology, peers=4), me)


def does_a_round(one: PeerFolder) -> None:
    """Leave what a start leaves that ends after its first round."""
    one.claim(fresh=False)
    (one.path / METRICS).write_text('{"round": 0}\n')
    one.release()


def test_every_start_counts_one_more(tmp_path: Path) -> None:
    assert folder(tmp_path).path == tmp_path / "run" / "peer-1"
    for expected in range(3):
        one = folder(tmp_path)
        assert one.claim(fresh=False) == expected
        one.release()
    fresh = folder(tmp_path)
    assert fresh.claim(fresh=True) == 3  # neighbours know the earlier ones
    fresh.release()


def test_another_run_in_the_same_folder_is_refused_by_name_of_the_setting(tmp_path: Path) -> None:
    does_a_round(folder(tmp_path))
    with pytest.raises(ConfigError, match=r"training\.lr \(0\.05 then, 0\.1 now\).*--fresh"):
        folder(tmp_path, "training.lr=0.1").claim(fresh=False)
    with pytest.raises(ConfigError, match="another graph of the same epoch 0"):
        folder(tmp_path, topology="complete").claim(fresh=False)
    local = folder(tmp_path, "network.base_port=7000", "peer.checkpoint_every=9")
    local.claim(fresh=False)  # not shared: may change
    local.release()
    other = folder(tmp_path, "training.lr=0.1")
    assert other.claim(fresh=True) == 2
    other.release()


def test_a_start_that_did_no_round_leaves_the_folder_to_corrected_settings(tmp_path: Path) -> None:
    wrong, right = folder(tmp_path, "training.lr=0.03"), folder(tmp_path)
    assert wrong.claim(fresh=False) == 0
    wrong.keep_labels(("fear", "anger"))
    for empty in (METRICS, EVENTS, DRAWS, SUMS):  # refused by its neighbours, it has written nothing of a round
        (wrong.path / empty).touch()
    wrong.release()
    assert right.finished() is None
    assert right.claim(fresh=False) == 1
    assert {file.name for file in right.path.iterdir()} == {RUN, STARTS, LOCK}  # no secret key of the other settings
    right.release()
    assert right.claim(fresh=False) == 2
    right.release()


@pytest.mark.parametrize("left", ["checkpoint/000005", "end/000040", "model/card.json", "finished.json"])
def test_whatever_a_run_has_achieved_is_not_given_up_for_other_settings(tmp_path: Path, left: str) -> None:
    one = folder(tmp_path)
    one.claim(fresh=False)
    file = one.path / left
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    one.release()
    with pytest.raises(ConfigError, match=r"training\.lr \(0\.05 then, 0\.1 now\).*--fresh"):
        folder(tmp_path, "training.lr=0.1").claim(fresh=False)
    assert file.exists()


def test_the_summary_of_a_folder_that_was_moved_names_the_folder_as_it_is_now(tmp_path: Path) -> None:
    one = folder(tmp_path)
    one.claim(fresh=False)
    one.finish({"out": "/before", "model": "/before/model", "uar": 0.5})
    assert one.finished() == {"out": str(one.path), "model": str(one.model), "uar": 0.5}
    one.release()


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_a_full_disk_is_no_wrong_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("p2pser.peer.folder.append_privately", refuse)
    with pytest.raises(ConfigError, match="cannot make or lock the folder") as caught:
        folder(tmp_path).claim(fresh=False)
    assert caught.value.exit_code == code


def test_fresh_removes_what_a_peer_writes_and_nothing_else(tmp_path: Path) -> None:
    one = folder(tmp_path)
    one.claim(fresh=False)
    for name in REMOVED_BY_FRESH:
        if "." in name:
            with (one.path / name).open("a"):
                pass
        else:
            (one.path / name).mkdir()
            (one.path / name / "x").write_text("x")
    (one.path / "my-notes.txt").write_text("mine")
    one.finish({"uar": 0.5})
    assert one.finished() == {"uar": 0.5}
    one.release()
    again = folder(tmp_path)
    again.claim(fresh=True)
    again.release()
    assert again.finished() is None
    assert (one.path / "my-notes.txt").read_text() == "mine"
    assert not (one.path / "model").exists()
    assert not (one.path / "metrics.jsonl").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(30, "Read-only file system")])
def test_what_a_fresh_start_has_not_removed_still_belongs_to_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                     error: BaseException) -> None:
    one = folder(tmp_path)
    one.claim(fresh=False)
    one.release()
    (one.checkpoints / "000005").mkdir(parents=True)

    def fails(path: Path) -> None:
        raise error

    with monkeypatch.context() as disk:
        disk.setattr(shutil, "rmtree", fails)
        with pytest.raises(ConfigError if isinstance(error, OSError) else KeyboardInterrupt):
            folder(tmp_path, "training.lr=0.1").claim(fresh=True)
    assert one.checkpoints.is_dir()
    with pytest.raises(ConfigError, match=r"training\.lr \(0\.05 then, 0\.1 now\).*--fresh"):
        folder(tmp_path, "training.lr=0.1").claim(fresh=False)


def claim_fresh(path: Path) -> None:
    folder(path).claim(fresh=True)


def test_a_second_process_in_the_same_folder_is_refused_even_with_fresh(tmp_path: Path) -> None:
    """Else ``--fresh``, typed in the wrong terminal, would remove a running peer's files."""
    one = folder(tmp_path)
    one.claim(fresh=False)
    with Forked(partial(claim_fresh, tmp_path)) as second:
        _, err = second.communicate()
    assert "ConfigError" in err
    assert "another process runs this peer" in err
    assert (one.path / "run.json").exists()
    one.release()
    with Forked(partial(claim_fresh, tmp_path)) as third:
        _, err = third.communicate()
    assert third.returncode == 0, err


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file is in the way")
    with pytest.raises(ConfigError, match="--out"):
        folder(tmp_path).claim(fresh=False)


def test_a_folder_on_a_file_system_without_locks_is_a_config_error(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigError, match=r"lock the folder .*: No locks available; choose another \(--out\)"):
        folder(tmp_path).claim(fresh=False)


def test_a_damaged_file_says_which(tmp_path: Path) -> None:
    one = folder(tmp_path)
    one.claim(fresh=False)
    one.release()
    (one.path / "run.json").write_text("{half")
    with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
        folder(tmp_path).claim(fresh=False)
    assert os.listdir(one.path)


@pytest.mark.parametrize("name", ["run.json", "finished.json", "starts.json"])
def test_a_file_of_another_form_says_which(tmp_path: Path, name: str) -> None:
    one = folder(tmp_path)
    one.claim(fresh=False)
    one.release()
    (one.path / name).write_text("[]")
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        folder(tmp_path).claim(fresh=False)


def test_a_start_whose_folder_was_lost_is_later_than_those_before(tmp_path: Path) -> None:
    for least, expected in ((70, 70), (60, 71), (200, 200)):
        with folder(tmp_path) as one:
            assert one.claim(fresh=False, least=least) == expected
