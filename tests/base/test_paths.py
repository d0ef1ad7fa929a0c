"""The user's folders."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from p2pser.base import paths
from p2pser.network import keys

NAMES = ("P2PSER_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home folder, which can be written."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "ada"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.skipif(sys.platform != "linux", reason="the places of other systems are theirs")
def test_defaults_on_linux(plain: Path) -> None:
    assert paths.cache_folder() == plain / ".cache" / "p2pser"
    assert paths.config_folder() == plain / ".config" / "p2pser"


def test_variables_replace_the_defaults(monkeypatch: pytest.MonkeyPatch, plain: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/cache")
    monkeypatch.setenv("XDG_CONFIG_HOME", "~/settings")
    assert paths.cache_folder() == Path("/scratch/cache/p2pser")
    assert paths.config_folder() == plain / "settings" / "p2pser"
    monkeypatch.setenv("P2PSER_CACHE", "~/features")
    assert paths.cache_folder() == plain / "features"
    monkeypatch.setenv("P2PSER_CACHE", "~nosuchuser/features")
    assert paths.cache_folder() == Path("~nosuchuser/features")


def test_the_secret_lies_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/site")
    assert keys.default_secret_path() == Path("/etc/site/p2pser/secret")


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for temporary files, of a user whose home cannot be written."""
    monkeypatch.setattr(paths.os, "access", lambda path, mode: Path(path).is_relative_to(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_without_a_home_that_can_be_written_the_cache_is_temporary_and_that_is_told_once(sealed: Path) -> None:
    said: list[str] = []
    paths.tell_of_caches(said.append)
    paths.tell_of_caches(said.append)
    assert paths.cache_folder() == sealed / f"p2pser-{os.getuid()}"
    assert paths.cache_folder().stat().st_mode & 0o777 == 0o700
    assert len(said) == 1
    assert "P2PSER_CACHE" in said[0]


def test_a_temporary_folder_that_others_can_enter_is_not_used(sealed: Path, plain: Path) -> None:
    (sealed / f"p2pser-{os.getuid()}").mkdir()
    (sealed / f"p2pser-{os.getuid()}").chmod(0o755)
    said: list[str] = []
    paths.tell_of_caches(said.append)
    assert paths.cache_folder() == plain / ".cache" / "p2pser"
    assert "cannot be written" in said[0]


@pytest.mark.parametrize(("beside", "place", "expected"), [
    ("tmp", "tmp", {}), ("ada", "tmp", {"NUMBA_CACHE_DIR": "tmp/cache/numba"}),
    ("ada", "ada", {"NUMBA_DISABLE_JIT": "1"})])
def test_numba_has_a_place_for_compiled_code_or_compiles_none(
        beside: str, place: str, expected: dict[str, str], sealed: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    librosa = ModuleSpec("librosa", None)
    librosa.submodule_search_locations = [str(tmp_path / beside / "librosa")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: {"librosa": librosa}[name])
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / place / "cache"))
    paths.keep_compiled_code()
    assert {name: os.environ[name].removeprefix(f"{tmp_path}/") for name in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")
            if name in os.environ} == expected


def test_a_home_that_this_user_may_not_enter_cannot_be_written(monkeypatch: pytest.MonkeyPatch, plain: Path) -> None:
    status = os.stat

    def stat(path: os.PathLike[str] | str | int, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and Path(path).is_relative_to(plain / ".cache"):
            raise PermissionError(13, "Permission denied", str(path))
        return status(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != plain)
    assert not paths.can_be_written(plain / ".cache" / "p2pser")
    assert paths.existing(plain / ".cache" / "p2pser") == plain


def test_a_place_for_compiled_code_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/scratch/numba")
    paths.keep_compiled_code()
    assert os.environ["NUMBA_CACHE_DIR"] == "/scratch/numba"
