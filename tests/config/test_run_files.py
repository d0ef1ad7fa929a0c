"""Run files and ``--set``: how values may be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pser.base.errors import ConfigError
from p2pser.config import Config, load


def setting(*settings: str) -> Config:
    return Config().with_settings(settings)


@pytest.mark.parametrize(("path", "text", "value"), [
    ("features.layer_weights", "0.25,0.5", (0.25, 0.5)), ("features.layer_weights", "[0.25, 0.5]", (0.25, 0.5)),
    ("features.layer_weights", "1", (1.0,)), ("features.layer_weights", "", ()),
    ("corpus.labels", "anger, neutral", ("anger", "neutral")), ("corpus.labels", "[anger, neutral]",
                                                               ("anger", "neutral")),
    ("corpus.labels", "anger", ("anger",)), ("corpus.labels", "none", None), ("corpus.labels", "null", None),
    ("corpus.train", "emodb,ravdess", ("emodb", "ravdess")), ("corpus.scale", "1,5", (1.0, 5.0)),
    ("model.hidden", "64,32", (64, 32)), ("model.hidden", "64", (64,)), ("model.hidden", "", ()),
    ("gossip.share", "hidden.0.*,head.*", ("hidden.0.*", "head.*")), ("gossip.share", "body", ("body",)),
    ("augment.snr", "none", None), ("model.width", "0.25*2,0.5", (0.25, 0.25, 0.5)), ("model.width", "0.5", (0.5,)),
    ("features.encoder", "none", "none"), ("corpus.data", "a,b", Path("a,b")),
])
def test_lists_and_absence(path: str, text: str, value: Any) -> None:
    # YAML reads an empty value as null; a list that is empty is written in quotes.
    config = setting("augment.copies=1", "augment.gain=3", f"{path}={text or repr(text)}")
    found: Any = config
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_numbers_are_decimal_and_words_are_words_whatever_yaml_1_1_takes_them_for() -> None:
    config = setting("training.rounds=010", "seed=0777", "corpus.labels=[no, yes]", "corpus.map={01: anger, off: calm}",
                     "name=2024-01-01", "corpus.data=~")
    assert (config.training.rounds, config.seed, config.name) == (10, 777, "2024-01-01")
    assert config.corpus.labels == ("no", "yes")
    assert config.corpus.map == {"01": "anger", "off": "calm"}
    assert config.corpus.data == Path.home()
    for text in ("training.local_steps=1:0", "training.lr=1:30", "seed=0x10"):
        with pytest.raises(ConfigError, match=r"must be a (whole )?number"):
            setting(text)


def test_entries_of_mappings_are_set_one_by_one() -> None:
    config = setting("corpus.map.calm=neutral", "corpus.map.joy=happiness", "gossip.parameters.beta=0.5",
                     "corpus.data=somewhere", "corpus.data.emodb=clips")
    assert config.corpus.map == {"calm": "neutral", "joy": "happiness"}
    assert config.gossip.parameters == {"beta": 0.5}
    assert config.corpus.data == {"emodb": Path("clips")}
    with pytest.raises(ConfigError, match=r"there is no setting 'training\.lr\.x'; did you mean 'training\.lr'"):
        setting("training.lr.x=3")


@pytest.mark.parametrize(("text", "message"), [
    ("training.lr", r"--set 'training\.lr': write it as section\.field=value"),
    ("training.lr={", r"the value of --set training\.lr={ is not YAML: line 1, column 2 cannot be read; check"),
    ("corpus.map={a: b, a: c}", r"--set .*: the key 'a' is given twice, the second time in line 1; keep"),
    ("corpus.labels=!!timestamp 2024-13-45", "is not YAML; check"),
])
def test_a_value_that_is_no_yaml(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        setting(text)


@pytest.mark.parametrize(("text", "message"), [
    ("training: {lr: 1}\nseed: 1\ntraining: {lr: 0.1}\n", r"'training' is given twice, the second time in line 3"),
    ("training:\n  lr: 0.1\n  lr: 0.2\n", r"run\.yaml: the key 'lr' is given twice, the second time in line 3"),
    ("training: [", r"run\.yaml is not YAML: line 1, column 12"),
    ("- 1\n", "must hold a mapping of sections, not a list"),
    ("training: {lr: -1}", r"run\.yaml: training\.lr = -1: must be a number above 0"),
    ("\xff".encode("latin-1").decode("latin-1"), "must hold a mapping of sections, not a str"),
])
def test_a_wrong_run_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with pytest.raises(ConfigError, match=r"cannot read the run file .*: No such file"):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load(path)
    path.write_text("[" * 5000)
    with pytest.raises(ConfigError, match="is not YAML"):
        load(path)


def test_settings_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: night\ntraining: {rounds: 3, lr: 0.2}\n", encoding="utf-8")
    config = load(path, ["training.rounds=7"])
    assert (config.name, config.training.rounds, config.training.lr) == ("night", 7, 0.2)
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert load(path) == Config()


def test_a_home_is_written_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    config = Config().with_settings(["peer.out=~/runs", "network.secret_key=~/peer-0.key"])
    assert (str(config.peer.out), str(config.network.secret_key)) == ("/home/op/runs", "/home/op/peer-0.key")
    with pytest.raises(ConfigError, match="a user that this machine does not know"):
        Config().with_settings(["peer.out=~no-such-user-here/runs"])
