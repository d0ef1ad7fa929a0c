"""The user's folders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pser.base import paths
from p2pser.network import keys

NAMES = ("P2PSER_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")


@pytest.mark.skipif(sys.platform != "linux", reason="the places of other systems are theirs")
def test_defaults_on_linux() -> None:
    assert paths.cache_folder() == Path("/home/ada/.cache/p2pser")
    assert paths.config_folder() == Path("/home/ada/.config/p2pser")


def test_variables_replace_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/cache")
    monkeypatch.setenv("XDG_CONFIG_HOME", "~/settings")
    assert paths.cache_folder() == Path("/scratch/cache/p2pser")
    assert paths.config_folder() == Path("/home/ada/settings/p2pser")
    monkeypatch.setenv("P2PSER_CACHE", "~/features")
    assert paths.cache_folder() == Path("/home/ada/features")


def test_the_secret_lies_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/site")
    assert keys.default_secret_path() == Path("/etc/site/p2pser/secret")
