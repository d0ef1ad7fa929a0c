"""Kinds of features from outside p2pser: their settings, their cache keys, and helper processes that find them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FEATURES
from p2pser.config import FeatureSettings, ModelSettings, load
from p2pser.features import clip_features
from p2pser.features.extraction import extract
from p2pser.features.kind import Array, FeatureKind, kinds_of
from p2pser.models.directory import Card
from p2pser.models.origin import Origin

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Parts(FeatureKind):
    """The mean of the samples in equal parts of the clip, times a factor."""

    version = 3
    parts: int = 2
    factor: float = 1.0
    n_mels: int

    def compute(self, signal: Array) -> Array:
        return np.array([part.mean() * self.factor for part in np.array_split(signal, self.parts)])

    def names(self) -> list[str]:
        return [f"parts.{k}" for k in range(self.parts)]


@dataclass(frozen=True, kw_only=True)
class Wrong(FeatureKind):
    """Fails in the way that it is asked for."""

    how: str

    def compute(self, signal: Array) -> Array:
        return {"shape": np.zeros(3), "nan": np.array([np.nan])}[self.how]

    def names(self) -> list[str]:
        return ["wrong.0"]


@dataclass(frozen=True, kw_only=True)
class Frames(FeatureKind):
    """A matrix with frames of its own."""

    vector = False

    def compute(self, signal: Array) -> Array:
        return np.zeros((1, 7), np.float32)

    def names(self) -> list[str]:
        return ["frames.0"]

    def shape(self) -> tuple[int, ...]:
        return (1, 7)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    plugins = {"parts": Parts, "wrong": Wrong, "frames": Frames}
    for name, cls in plugins.items():
        FEATURES.register(name)(cls)
    yield
    for name in plugins:
        del FEATURES._registered[name], FEATURES._sources[name]


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / f"{number}.wav" for number in range(9)]
    for number, path in enumerate(paths):
        soundfile.write(path, 0.1 + 0.01 * np.sin(np.arange(3200) * (0.1 + 0.01 * number)), 16000)
        os.utime(path, (1e9, 1e9))
    return paths


# -- settings ----------------------------------------------------------------------------------------------------


def test_parameters_fill_the_fields_of_the_kind() -> None:
    settings = load(None, ["features.kind=parts", "features.parameters={parts: 3, factor: 2}",
                           "features.n_mels=40"]).features
    assert kinds_of(settings) == [Parts(parts=3, factor=2.0, n_mels=40, sample_rate=16000)]
    assert type(kinds_of(settings)[0].factor) is float  # type: ignore[attr-defined]
    assert clip_features.shape(settings) == (3,)
    values = clip_features.compute(np.repeat(np.float32([1, 2, 4]), 2000), settings)
    np.testing.assert_array_equal(values, np.float32([2, 4, 8]))
    assert settings.vector


@pytest.mark.parametrize(("settings", "message"), [
    ("kind: parts, parameters: {part: 3}", "parts has no parameter 'part'; did you mean 'parts'"),
    ("kind: parts, parameters: {parts: 2.5}", r"features\.parameters\.parts = 2\.5 must be a whole number"),
    ("kind: parts, parameters: {factor: many}", r"features\.parameters\.factor = 'many' must be a number"),
    ("kind: parts, parameters: {n_mels: 3}", r"set features\.n_mels"),
    ("kind: mfcc, parameters: {parts: 3}", "mfcc has no parameter 'parts'; it has none"),
    ("kind: part", "no feature kind 'part'; did you mean 'parts'"),
    ("kind: parts+frames", "joins vectors and matrices"),
])
def test_wrong_settings_are_refused_in_one_sentence(settings: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"features: {{{settings}}}\n")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "run.yaml")


def test_a_parameter_without_a_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"features\.parameters: wrong needs a value for how"):
        clip_features.shape(FeatureSettings(kind="wrong"))


def test_joined_kinds_take_their_own_parameters() -> None:
    settings = FeatureSettings(kind="wrong+parts", parameters={"how": "nan", "parts": 4})
    assert clip_features.names(settings) == ["wrong.0", "parts.0", "parts.1", "parts.2", "parts.3"]


def test_joined_matrices_need_the_same_frames() -> None:
    with pytest.raises(ConfigError, match=r"differ in their frames \(logmel 300, frames 7\)"):
        clip_features.shape(FeatureSettings(kind="logmel+frames"))


def test_an_object_that_is_no_feature_kind_is_refused() -> None:
    FEATURES.register("odd")(dict)
    try:
        with pytest.raises(ConfigError, match=r"'odd' .*is not a subclass of FeatureKind"):
            clip_features.shape(FeatureSettings(kind="odd"))
        with pytest.raises(ConfigError, match=r"'odd' .*cannot be used"):
            load(None, ["features.kind=odd+mfcc"])
    finally:
        del FEATURES._registered["odd"], FEATURES._sources["odd"]


def test_a_model_whose_feature_kind_is_not_installed_names_it() -> None:
    card = Card(labels=("anger", "joy"), shape=(2,), model=ModelSettings(), features=FeatureSettings(kind="parts"),
                normalise="none", statistics=None, corpus=Origin("tones", "1"))
    document = card.to_dict("")
    assert Card.from_dict(document, "card.json").features == FeatureSettings(kind="parts")
    del FEATURES._registered["parts"], FEATURES._sources["parts"]
    with pytest.raises(ModelError, match=r"card\.json needs the feature kind 'parts', which is not installed"):
        Card.from_dict(document, "card.json")
    FEATURES.register("parts")(Parts)


@pytest.mark.parametrize(("names", "message"), [
    (None, r"the names of the feature kind Parts cannot be counted \(TypeError: "),
    ([], "the feature kind Parts has no names"),
])
def test_a_kind_without_names_is_refused(names: list[str] | None, message: str, clips: list[Path],
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parts, "names", lambda self: names)
    with pytest.raises(ConfigError, match=message):
        extract(clips, FeatureSettings(kind="parts"))


# -- values and keys ---------------------------------------------------------------------------------------------


def test_the_key_depends_on_parameters_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**parameters: float) -> str:
        return clip_features.settings_key(FeatureSettings(kind="parts", parameters=parameters))

    # A default is part of the key too: another version of the package may have another one.
    keys = [key(), key(parts=3), key(factor=2), key(parts=2, factor=1)]
    assert keys[0] == keys[3] == "parts-4c069772a8d6721d"
    assert len(set(keys)) == 3
    monkeypatch.setattr(Parts, "version", 4)
    assert key() != keys[0]


def test_a_clip_whose_features_are_not_finite_is_left_out(clips: list[Path]) -> None:
    extraction = extract(clips[:2], FeatureSettings(kind="wrong", parameters={"how": "nan"}))
    assert extraction.features == [None, None]
    assert extraction.left_out == [(path, "its features wrong are not finite") for path in clips[:2]]


def test_an_error_of_a_plug_in_costs_the_clip(clips: list[Path]) -> None:
    extraction = extract(clips[:1], FeatureSettings(kind="wrong", parameters={"how": "raise"}))
    assert extraction.left_out == [(clips[0], "the features wrong cannot be computed of it (KeyError: 'raise')")]


def test_a_shape_that_is_not_the_announced_one_is_refused(clips: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"returned values of shape \(3,\), and its shape is \(1,\)"):
        extract(clips[:1], FeatureSettings(kind="wrong", parameters={"how": "shape"}))


# -- processes ---------------------------------------------------------------------------------------------------

KIND = """
    import os
    from dataclasses import dataclass
    import numpy as np
    from p2pser.base.registries import FEATURES
    from p2pser.features.kind import FeatureKind

    {decorator}
    @dataclass(frozen=True, kw_only=True)
    class Process(FeatureKind):
        bias: float = 0.0
        def compute(self, signal):
            return np.array([signal.mean() + self.bias, os.getpid()])
        def names(self):
            return ["mean", "process"]
"""

EXTRACT = """
    import os, sys
    from pathlib import Path
    {load}
    from p2pser.config import FeatureSettings
    from p2pser.features.extraction import extract
    done = extract([Path(name) for name in sys.argv[1:]], FeatureSettings(kind="process", parameters={{"bias": 0.5}}),
                   workers=2)
    assert not done.left_out, done.left_out
    print(*("here" if values[1] == np.float32(os.getpid()) else "helper" for values in done.features))
    print(*(round(float(values[0]), 2) for values in done.features))
"""


def places(tmp_path: Path, script: str, clips: list[Path], *folders: Path) -> tuple[set[str], set[str]]:
    """Where a script computed its features, and their values."""
    file = tmp_path / "script.py"
    file.write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *folders)))}
    run = subprocess.run([sys.executable, str(file), *map(str, clips)], capture_output=True, text=True,
                         env=environment, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    where, values = run.stdout.splitlines()
    assert run.stderr == ""
    return set(where.split()), set(values.split())


def test_helper_processes_import_the_module_beside_the_script(tmp_path: Path, clips: list[Path]) -> None:
    (tmp_path / "process_kind.py").write_text(textwrap.dedent(
        KIND.format(decorator='@FEATURES.register("process")')))
    script = textwrap.dedent(EXTRACT.format(load="import process_kind, numpy as np"))
    assert places(tmp_path, script, clips) == ({"helper"}, {"0.6"})


def test_helper_processes_find_installed_packages(tmp_path: Path, clips: list[Path]) -> None:
    packages = tmp_path / "packages"
    (packages / "process_kind-1.0.dist-info").mkdir(parents=True)
    (packages / "process_kind-1.0.dist-info" / "METADATA").write_text("Name: process-kind\nVersion: 1.0\n")
    (packages / "process_kind-1.0.dist-info" / "entry_points.txt").write_text(
        "[p2pser.features]\nprocess = process_kind:Process\n")
    (packages / "process_kind.py").write_text(textwrap.dedent(KIND.format(decorator="")))
    script = textwrap.dedent(EXTRACT.format(load="import numpy as np"))
    assert places(tmp_path, script, clips, packages) == ({"helper"}, {"0.6"})


def test_kinds_of_the_main_module_are_computed_in_its_process(tmp_path: Path, clips: list[Path]) -> None:
    kind = textwrap.dedent(KIND.format(decorator='@FEATURES.register("process")'))
    script = kind + textwrap.dedent(EXTRACT.format(load=""))
    assert places(tmp_path, script, clips) == ({"here"}, {"0.6"})


def test_a_kind_that_a_function_registers_is_computed_in_its_process(tmp_path: Path, clips: list[Path]) -> None:
    decorated = KIND.format(decorator='@FEATURES.register("process")')
    (tmp_path / "process_kind.py").write_text("def add():\n" + decorated)
    script = textwrap.dedent(EXTRACT.format(load="import process_kind, numpy as np; process_kind.add()"))
    assert places(tmp_path, script, clips) == ({"here"}, {"0.6"})
