"""Speech encoders: tiny random ones of every family, what the cache keeps, and messages where one is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
from click.testing import CliRunner

pytest.importorskip("transformers", reason="the ssl extra is not installed")

from tiny_encoders import save

import p2pser
from p2pser.base.errors import ConfigError, ModelError
from p2pser.cli.predict import predict
from p2pser.config import Config, FeatureSettings, ModelSettings
from p2pser.features import clip_features, encoders
from p2pser.features.extraction import extract
from p2pser.features.kind import kinds_of
from p2pser.models import for_run

RATE = 16000
FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    return path


def chosen(where: Path, **more: Any) -> FeatureSettings:
    return FeatureSettings(kind="ssl", encoder=str(where), **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_features_are_the_mean_of_the_lower_layers_means(family: str, saved: dict[str, Path]) -> None:
    import torch
    import transformers

    signal = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
    settings = chosen(saved[family])
    assert clip_features.shape(settings) == (32,)
    assert len(clip_features.names(settings)) == 32
    found = clip_features.compute(signal, settings)
    model = transformers.AutoModel.from_pretrained(saved[family]).eval()
    inputs = transformers.AutoFeatureExtractor.from_pretrained(saved[family])(
        signal, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        encoder = model.get_encoder() if family == "whisper" else model
        states = encoder(**inputs, output_hidden_states=True).hidden_states
    heard = 100 if family == "whisper" else None  # 50 frames a second, of 30 s
    expected = torch.stack([state[0, :heard].mean(0) for state in states]).numpy()
    np.testing.assert_allclose(found, expected[1:].reshape(-1), atol=1e-5)
    last = clip_features.compute(signal, chosen(saved[family], layer_weights=(0, 0, 2)))
    np.testing.assert_allclose(last, expected[2], atol=1e-5)
    joined = clip_features.compute(signal, FeatureSettings(kind="chroma+mfcc"))
    assert joined.shape == (72, 300)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_layer_above_the_last_that_is_wanted_is_computed(family: str, saved: dict[str, Path]) -> None:
    signal = np.random.default_rng(3).normal(0, 0.1, RATE).astype(np.float32)
    whole = encoders.means(encoders.states(saved[family], signal, RATE, 2))
    _, model = encoders._load(saved[family])
    (top,) = (module for name, module in model.named_modules() if re.fullmatch(r"(encoder\.)?layers\.1", name))
    computed: list[int] = []
    handle = top.register_forward_hook(lambda *_: computed.append(1))
    try:
        lower = encoders.means(encoders.states(saved[family], signal, RATE, 1))
        assert not computed
        again = encoders.means(encoders.states(saved[family], signal, RATE, 2))
        assert computed
    finally:
        handle.remove()
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_allclose(lower, whole[:2], atol=1e-6)


def test_of_six_layers_the_first_four_are_cached_unless_a_higher_one_counts(
    tmp_path: Path, saved: dict[str, Path]
) -> None:
    for file in saved["hubert"].iterdir():
        shutil.copy(file, tmp_path / file.name)
    document = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**document, "num_hidden_layers": 6}), encoding="utf-8")
    encoders.layers_and_size.cache_clear()
    usual, lower, higher = (kinds_of(chosen(tmp_path, layer_weights=weights))[0]
                            for weights in ((), (0, 1, 0, 0, 3, 0, 0), (0, 1, 0, 0, 2, 1, 0)))
    assert [kind.cached_shape() for kind in (usual, lower, higher)] == [(5, 16), (5, 16), (6, 16)]
    means = np.arange(6 * 16, dtype=np.float32).reshape(6, 16)
    np.testing.assert_array_equal(usual.finish(means[:5]), means[2:5].reshape(-1))
    np.testing.assert_allclose(lower.finish(means[:5]), (means[1] + 3 * means[4]) / 4)
    np.testing.assert_allclose(higher.finish(means), (means[1] + 2 * means[4] + means[5]) / 4)
    assert usual.cache_settings() == lower.cache_settings() != higher.cache_settings()


@pytest.mark.parametrize(("depth", "layers"), [(1, (1,)), (2, (1, 2)), (3, (1, 2)), (4, (2, 3)), (6, (2, 3, 4)),
                                               (12, (4, 6, 8)), (24, (8, 12, 16))])
def test_the_layers_at_a_third_half_and_two_thirds_count(depth: int, layers: tuple[int, ...]) -> None:
    assert encoders.middle(depth) == layers


def test_of_a_long_clip_the_middle_30_seconds_are_used(saved: dict[str, Path]) -> None:
    middle = np.random.default_rng(2).normal(0, 0.1, 30 * RATE).astype(np.float32)
    around = np.ones(RATE, dtype=np.float32)
    long, short = (clip_features.compute(signal, chosen(saved["hubert"]))
                   for signal in (np.concatenate([around, middle, around]), middle))
    np.testing.assert_array_equal(long, short)
    middle[: 2 * RATE] = 0
    assert not np.array_equal(clip_features.compute(middle, chosen(saved["hubert"])), short)


def test_other_weights_compute_nothing_again(clip: Path, saved: dict[str, Path]) -> None:
    usual = extract([clip], chosen(saved["hubert"]), workers=1)
    first = extract([clip], chosen(saved["hubert"], layer_weights=(1, 0, 0)), workers=1)
    joined = extract([clip], FeatureSettings(kind="functionals+ssl", encoder=str(saved["hubert"])))
    assert (usual.computed, first.computed, joined.computed) == (1, 0, 1)
    assert usual.features[0] is not None
    assert first.features[0] is not None
    assert joined.features[0] is not None
    assert first.features[0].shape == (16,)
    np.testing.assert_array_equal(joined.features[0][-32:], usual.features[0])


def test_features_beside_an_encoder_s_are_scaled_down(saved: dict[str, Path]) -> None:
    def parts(kind: str, *more: str) -> object:
        settings = [f"features.kind={kind}", f"features.encoder={saved['hubert']}", *more]
        return for_run(Config().with_settings(settings), 3).model.parameters["parts"]

    assert parts("functionals+ssl") == "691*0.3,32*1"
    assert parts("ssl+functionals") == "32*1,691*0.3"
    assert (parts("ssl"), parts("functionals+dynamics")) == ("", "")
    assert parts("functionals+ssl", "model.parameters.parts=723*1") == "723*1"


def test_the_key_depends_on_the_encoder_s_content(tmp_path: Path, clip: Path) -> None:
    one, copy, other = (save("wav2vec2", tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    keys = [clip_features.settings_key(chosen(where)) for where in (one, copy, other)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("change", "message"), [
    ({"encoder": None}, "set features.encoder"),
    ({"encoder": "/nowhere/at/all"}, "there is no folder"),
    ({"encoder": "~nosuchuser/hubert"}, "there is no folder ~nosuchuser"),
    ({"encoder": "not a name!"}, "neither a folder nor"),
    ({"layer_weights": (1, 2)}, "2 layers and needs 3"),
    ({"sample_rate": 8000}, "set features.sample_rate=16000"),
])
def test_a_missing_or_unfit_encoder_is_refused_in_one_sentence(
    change: dict[str, Any], message: str, saved: dict[str, Path]
) -> None:
    settings = FeatureSettings(**{"kind": "ssl", "encoder": str(saved["hubert"]), **change})
    with pytest.raises(ConfigError, match=message):
        clip_features.compute(np.ones(RATE, dtype=np.float32), settings)


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path, saved: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        clip_features.shape(chosen(tmp_path))
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((saved["whisper"] / name).read_text())
    encoders.folder.cache_clear()
    with pytest.raises(ConfigError, match="no weights"):
        clip_features.shape(chosen(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    (tmp_path / "config.json").write_text("{}")
    encoders.folder.cache_clear()
    with pytest.raises(ConfigError, match="how many layers"):
        clip_features.shape(chosen(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "hidden_size": 16}))
    encoders.layers_and_size.cache_clear()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        clip_features.compute(np.ones(RATE, dtype=np.float32), chosen(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"version https://git-lfs.github.com/spec/v1\n",
                                     b"[" * 5000])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_damaged_file_of_an_encoder_is_refused_in_one_sentence(
    tmp_path: Path, saved: dict[str, Path], name: str, content: bytes
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(saved["hubert"], folder)
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"is damaged|cannot be loaded|is not UTF-8 text") as caught:
        clip_features.compute(np.ones(RATE, dtype=np.float32), chosen(folder))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_files_of_another_model_are_refused_and_its_parameters_not_drawn(
    tmp_path: Path, saved: dict[str, Path], family: str
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(saved[family], folder)
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    lost = {name: value for name, value in tensors.items() if "layers.1." not in name or "decoder" in name}
    assert len(lost) < len(tensors)
    for change, refused in (({f"x.{name}": value for name, value in tensors.items()}, True), (lost, True),
                            ({name: value for name, value in tensors.items() if "decoder" not in name}, False)):
        safetensors.torch.save_file(change, file, metadata={"format": "pt"})
        encoders._load.cache_clear()
        encoders.identity.cache_clear()
        if refused:
            with pytest.raises(ConfigError, match=r"lack .* parameters: they are those of another model, or incom"):
                clip_features.compute(np.ones(RATE, dtype=np.float32), chosen(folder))
        else:
            assert np.isfinite(clip_features.compute(np.ones(RATE, dtype=np.float32), chosen(folder))).all()


def test_without_a_network_the_message_says_how_to_fetch_the_encoder(tmp_path: Path) -> None:
    code = ("from p2pser.features import clip_features\nfrom p2pser.config import FeatureSettings\n"
            "try: clip_features.shape(FeatureSettings(kind='ssl', encoder='somebody/some-encoder', revision='v1'))\n"
            "except Exception as error: print(type(error).__name__, error)\n"
            "import sys; print('torch' in sys.modules)")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "", "HOME": str(tmp_path)})
    first, second = run.stdout.splitlines()
    assert first.startswith("ConfigError the encoder somebody/some-encoder at v1 is not on this machine")
    assert "hf download somebody/some-encoder" in first
    assert second == "False"


@pytest.fixture
def forgotten(clip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Forget what this process and this machine know of encoders."""
    def forget() -> None:
        shutil.rmtree(clip.parent / "cache", ignore_errors=True)
        encoders.folder.cache_clear()
        encoders.identity.cache_clear()

    for variable in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(clip.parent / "hub"))
    monkeypatch.delenv("P2PSER_ENCODERS", raising=False)
    forget()
    yield forget
    forget()


def test_an_encoder_is_found_by_its_identity_wherever_it_is(
    forgotten: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save("wav2vec2", tmp_path / "here" / "mine")
    portable = clip_features.portable(chosen(first))
    assert portable.encoder == f"@{encoders.identity(first)}"
    assert clip_features.portable(portable) == portable
    key = clip_features.settings_key(chosen(first))
    forgotten()
    with pytest.raises(ConfigError, match=f"the speech encoder {portable.encoder} is not on this machine: give the"):
        clip_features.settings_key(portable)
    # Beside others, in a folder that the variable names.
    save("wav2vec2", tmp_path / "there" / "another", seed=1)
    first.rename(tmp_path / "there" / "moved")
    monkeypatch.setenv("P2PSER_ENCODERS", f"{tmp_path / 'nowhere'}{os.pathsep}{tmp_path / 'there'}")
    assert clip_features.settings_key(portable) == key
    # Once used it is known, until it is gone.
    monkeypatch.delenv("P2PSER_ENCODERS")
    encoders.folder.cache_clear()
    assert encoders.folder(str(portable.encoder), None) == tmp_path / "there" / "moved"
    hub = tmp_path / "hub" / "models--some--encoder" / "snapshots"
    hub.mkdir(parents=True)
    (tmp_path / "there" / "moved").rename(hub / "0123abc")
    encoders.folder.cache_clear()
    assert encoders.folder(str(portable.encoder), None) == hub / "0123abc"


def test_a_named_encoder_that_has_changed_since_is_refused(
    forgotten: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = save("hubert", tmp_path / "now", seed=1)
    monkeypatch.setattr(encoders, "_download", lambda name, revision, form: {"some/encoder": now}[name])
    identity = encoders.identity(now)
    assert clip_features.portable(chosen(Path("some/encoder"))).encoder == f"some/encoder@{identity}"
    forgotten()
    assert encoders.folder(f"some/encoder@{identity}", None) == now
    forgotten()
    with pytest.raises(ConfigError, match="the speech encoder some/encoder has changed since: its identity is "
                                          f"{identity}, and {'0' * 16} is needed"):
        encoders.folder(f"some/encoder@{'0' * 16}", None)


def test_other_features_stay_as_they_are() -> None:
    settings = FeatureSettings(kind="mfcc", encoder="/somebody/s/folder")
    assert clip_features.portable(settings) is settings


def test_a_model_carries_the_identity_of_its_encoder_and_no_path(
    forgotten: Callable[[], None], clip: Path, tmp_path: Path
) -> None:
    import torch

    from p2pser import models
    from p2pser.models import directory
    from p2pser.models.directory import Card
    from p2pser.models.origin import Origin
    from p2pser.models.rows import Schema

    where, other = save("hubert", tmp_path / "clinic-in-a-town"), save("hubert", tmp_path / "other", seed=1)
    card = Card(labels=("anger", "joy"), shape=(32,), model=ModelSettings(name="mlp", hidden=(4,)),
                features=chosen(where), normalise="none", statistics=None, corpus=Origin("tones", "1"))
    module = models.build(card.model, card.shape, 2, seed=0)
    with torch.no_grad():
        directory.save(tmp_path / "model", Schema.of(module).flatten(module), Schema.of(module), card)
    (expected,) = p2pser.load(tmp_path / "model").predict(clip)
    assert "clinic" not in (tmp_path / "model" / "card.json").read_text(encoding="utf-8")
    forgotten()
    moved = where.rename(tmp_path / "elsewhere")
    command = [str(tmp_path / "model"), str(clip), "--json"]
    failed = CliRunner().invoke(predict, command)
    assert isinstance(failed.exception, ConfigError)
    assert "--encoder" in str(failed.exception)
    with pytest.raises(ModelError, match=f"was trained with another speech encoder than {other}"):
        p2pser.load(tmp_path / "model", encoder=str(other))
    found = CliRunner().invoke(predict, [*command, "--encoder", str(moved)], catch_exceptions=False)
    assert json.loads(found.stdout)["predictions"][0]["probabilities"] == expected.probabilities
    encoders.folder.cache_clear()
    assert p2pser.load(tmp_path / "model").predict(clip) == [expected]  # it was used here before
