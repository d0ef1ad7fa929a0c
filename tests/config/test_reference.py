"""The reference of settings: everything is listed, with default, unit and meaning."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.cli.settings import settings
from p2pser.config import Config, describe
from p2pser.config.problems import settings_of

ENTRIES = describe()


def entry(name: str, only_with: str = "") -> dict[str, object]:
    (found,) = (each for each in ENTRIES if (each["name"], each["only_with"]) == (name, only_with))
    return found


def test_entries() -> None:
    assert entry("training.lr") == {
        "name": "training.lr", "section": "training", "only_with": "", "default": 0.05, "families": {
            "adapter": 0.002, "cnn1d": 0.004, "cnn1d-shallow": 0.004, "cnn2d": 0.004, "crnn": 0.004,
            "gru": 0.008, "lstm": 0.008, "svm": 0.1},
        "takes": "a number above 0 and at most 1000",
        "unit": "", "meaning": "learning rate; some families have another default for their own optimiser",
        "shared": True}
    silence = entry("network.dead_after")
    assert (silence["default"], silence["unit"], silence["shared"]) == (8.0, "s", False)
    assert silence["meaning"] == "silence after which a neighbour is DEAD, and left out until it returns"
    assert entry("seed")["section"] == ""
    assert entry("model.hidden")["default"] == [128]
    assert entry("model.hidden")["families"]["cnn1d"] == [64, 64, 96]  # type: ignore[index]
    assert entry("peer.out")["default"] == "runs"
    assert entry("gossip.share")["default"] == ["all"]
    assert "[:LEAST]" in str(entry("corpus.partition")["meaning"])  # no unit
    rate = entry("gossip.parameters.beta2", "gossip.algorithm=fedopt")
    assert entry("model.parameters.c", "model.name=svm")["default"] == 1.0
    assert (rate["default"], rate["takes"], rate["section"]) == (0.99, "a number", "gossip")


def test_everything_is_listed_once_with_a_meaning() -> None:
    keys = [(each["name"], each["only_with"]) for each in ENTRIES]
    assert len(keys) == len(set(keys))
    assert {name for name, _ in settings_of(Config)} <= {name for name, _ in keys}
    assert {f"gossip.algorithm={name}" for name in ("choco", "fedopt", "k-gt")} <= {owner for _, owner in keys}
    for each in ENTRIES:
        assert len(str(each["meaning"])) > 5, each["name"]
        assert each["takes"] != "another value", each["name"]
    assert not any(str(each["name"]).endswith(".context") for each in ENTRIES)
    assert len(ALGORITHMS.names()) > 15


def test_sections_stay_together() -> None:
    sections = [each["section"] for each in ENTRIES]
    firsts = [sections.index(section) for section in dict.fromkeys(sections)]
    assert sections == [section for first, section in zip(firsts, dict.fromkeys(sections))
                        for _ in range(sections.count(section))]


def test_the_command() -> None:
    done = CliRunner().invoke(settings, ["network"])
    assert done.exit_code == 0
    assert ("network.dead_after = 8.0 s\n"
            "    silence after which a neighbour is DEAD, and left out until it returns.\n") in done.output
    assert "training." not in done.output
    assert json.loads(CliRunner().invoke(settings, ["training.lr", "--json"]).output) == [entry("training.lr")]
    assert json.loads(CliRunner().invoke(settings, ["--json"]).output) == ENTRIES
    assert "gossip.parameters.beta2 = 0.99" in CliRunner().invoke(settings, ["gossip.parameters"]).output


def test_an_unknown_section() -> None:
    with pytest.raises(ConfigError, match="there is no section or setting 'trainng'; did you mean 'training'"):
        CliRunner().invoke(settings, ["trainng"], catch_exceptions=False)
