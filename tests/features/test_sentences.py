"""Sentence embeddings: tiny random text encoders, transcripts read together, models that find their encoder again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

pytest.importorskip("transformers", reason="the ssl extra is not installed")

from tiny_encoders import save, save_text

import p2pser
from p2pser.base.errors import ConfigError, ModelError
from p2pser.cli.predict import predict
from p2pser.config import Config, FeatureSettings
from p2pser.features import clip_features, encoders, text_encoders
from p2pser.features.extraction import extract
from p2pser.features.federation import federate
from p2pser.graph import spec
from p2pser.models import directory
from p2pser.models.export import export_light
from p2pser.run.card import card as card_of
from p2pser.simulation.engine import simulate

RATE = 16000
SECRET = "zyzzyva sings"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("texts"))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    yield
    encoders.folder.cache_clear()


def chosen(encoder: Path | str, kind: str = "sentences") -> FeatureSettings:
    return FeatureSettings(kind=kind, text_encoder=str(encoder))


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_an_embedding_is_the_mean_over_tokens(family: str, tmp_path: Path) -> None:
    import torch
    import transformers

    path = save_text(tmp_path / family, family=family)
    texts = ["Go away!", "a", "  Go\taway!\0"]
    (kind,) = (clip_features.kinds_of(chosen(path)))
    found = kind.read_all([*texts, "", "\x00"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = (transformers.BertModel if family == "bert" else transformers.T5EncoderModel).from_pretrained(path).eval()
    for text, values in zip(texts[:2], found):
        with torch.no_grad():
            tokens = tokenizer(text, return_tensors="pt")["input_ids"]
            mean = model(input_ids=tokens).last_hidden_state[0].mean(0).numpy()
        assert tokens.shape[1] == len(text) + 2
        np.testing.assert_allclose(values[1:], mean / np.linalg.norm(mean) * 4, atol=1e-5)
    np.testing.assert_array_equal(found[2], found[0])
    np.testing.assert_array_equal(found[:, 0], [1, 1, 1, 0, 0])
    assert not found[3:].any()
    assert clip_features.names(chosen(path))[:2] == ["sentences.known", "sentences.0"]
    assert clip_features.shape(chosen(path)) == (17,)


def test_texts_are_read_in_batches_each_once_and_cut(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    means = text_encoders._means
    monkeypatch.setattr(text_encoders, "_means", lambda path, texts: (sizes.append(len(texts)), means(path, texts))[1])
    texts = [f"{'word ' * (k % 7)}{k % 70}" for k in range(140)] + ["x" * 62, "x" * 5000]
    together = text_encoders.embed(encoder, texts)
    assert sizes == [32, 32, 8]
    one_by_one = np.concatenate([text_encoders.embed(encoder, [text]) for text in texts[:5] + texts[-2:]])
    np.testing.assert_allclose(together[[0, 1, 2, 3, 4, -2, -1]], one_by_one, atol=1e-5)
    np.testing.assert_allclose(together[-1], together[-2], atol=1e-5)
    assert text_encoders.embed(encoder, []).shape == (0, 16)


def test_what_is_missing_is_said(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"needs a text encoder: set features\.text_encoder"):
        clip_features.shape(FeatureSettings(kind="sentences"))
    (tmp_path / "speech").mkdir()
    with pytest.raises(ConfigError, match=r"it has no config\.json; a text encoder is a folder written by save_pretra"):
        clip_features.shape(chosen(tmp_path / "speech"))
    (tmp_path / "narrow").mkdir()
    for file in encoder.iterdir():
        (tmp_path / "narrow" / file.name).write_bytes(file.read_bytes())
    document = json.loads((encoder / "config.json").read_text())
    (tmp_path / "narrow" / "tokenizer_config.json").write_text(json.dumps(
        {**json.loads((encoder / "tokenizer_config.json").read_text()), "pad_token": None}))
    with pytest.raises(ConfigError, match="no token to fill up with"):
        clip_features.compute(np.zeros(RATE), chosen(tmp_path / "narrow"), "a")
    (tmp_path / "narrow" / "config.json").write_text(json.dumps({**document, "hidden_size": None}))
    text_encoders.width.cache_clear()
    with pytest.raises(ConfigError, match="does not say how wide its layers are"):
        clip_features.shape(chosen(tmp_path / "narrow"))
    text_encoders._load.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"encoders of speech and text .* need the extra ssl"):
        clip_features.compute(np.zeros(RATE), chosen(encoder), "a")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two emotions whose voices are alike and whose words differ."""
    said = {"anger": ("go away", SECRET, ""), "happiness": ("ooo lovely", "we won", "so glad")}
    random, rows = np.random.default_rng(0), ["path,speaker,emotion,transcript"]
    for speaker in ("ann", "bob", "cy", "dee"):
        for emotion, sentences in said.items():
            for k, text in enumerate(sentences):
                soundfile.write(tmp_path / f"{speaker}-{emotion}-{k}.wav", random.normal(0, 0.1, RATE // 4), RATE)
                rows.append(f"{speaker}-{emotion}-{k}.wav,{speaker},{emotion},{text}")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "clips.csv"


def test_no_transcript_is_cached_and_clips_keep_their_place(encoder: Path, manifest: Path, tmp_path: Path) -> None:
    corpus = p2pser.corpora.manifest.read_manifest(manifest)
    texts, paths = [clip.transcript for clip in corpus.clips], [clip.path for clip in corpus.clips]
    settings = chosen(encoder, "chroma")
    alone = extract(paths, chosen(encoder), texts=texts)
    assert [values is None for values in alone.features] == [not text for text in texts]
    broken = [*paths[:2], tmp_path / "none.wav", *paths[2:]]
    both = extract(broken, chosen(encoder, "words+dynamics+sentences"), texts=[*texts[:2], "x", *texts[2:]], workers=1)
    assert [number for number, values in enumerate(both.features) if values is None] == [2]
    kept = [values for values in both.features if values is not None]
    for values, text, other in zip(kept, texts, alone.features):
        np.testing.assert_allclose(values[-17:], 0 if other is None else other, atol=1e-5)
        assert values[0] == bool(text)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert everything
    assert b"zyzzyva" not in everything
    assert settings.vector is False


def test_a_model_finds_its_text_encoder_by_identity(encoder: Path, manifest: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config().with_settings(["corpus.name=manifest", f"corpus.data={manifest}", "model.hidden=8",
                                     "features.kind=dynamics+sentences", f"features.text_encoder={encoder}",
                                     "features.normalise=global", "training.rounds=4", "corpus.split=loso"])
    ring = spec.load("ring", 3)
    found = simulate(config, ring, federate(config, 3, workers=1))
    folder = tmp_path / "model"
    directory.save(folder, found.row, found.schema, card_of(found.config, ring, found.federation, found.statistics,
                                                            agreed=3))
    text = (folder / "card.json").read_text()
    assert str(encoder) not in text
    assert "zyzzyva" not in text
    identity = encoders.identity(encoder, encoders.TEXT)
    assert f'"text_encoder": "@{identity}"' in text
    model = p2pser.load(folder)  # where p2pser has used it before
    clip = manifest.parent / "ann-anger-1.wav"
    probabilities = [model.predict(clip, texts=each, together=False)[0].probabilities for each in (SECRET, "so glad")]
    assert probabilities[0] != probabilities[1]
    assert model.card.model.parameters["late"] == "297,17"
    with pytest.raises(ModelError, match="takes the features of an encoder"):
        export_light(folder, tmp_path / "light")
    (tmp_path / "cache").rename(tmp_path / "old")  # elsewhere: by the option, or by the variable
    encoders.identity.cache_clear()
    encoders.folder.cache_clear()
    with pytest.raises(ConfigError, match=rf"the text encoder @{identity} is not on this machine.*text_encoder"):
        p2pser.load(folder)
    arguments = [str(folder), str(clip), "--text", "so glad"]
    outcome = CliRunner().invoke(predict, [*arguments, "--encoder", str(encoder)])
    assert outcome.exit_code == 0, outcome.output
    encoders.folder.cache_clear()
    monkeypatch.setenv("P2PSER_ENCODERS", str(encoder.parent))
    assert CliRunner().invoke(predict, arguments).exit_code == 0
    other = save_text(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="trained with another text encoder than"):
        p2pser.load(folder, encoder=str(other))
    with pytest.raises(ModelError, match="uses no speech encoder: leave --encoder out"):
        p2pser.load(folder, encoder=str(save("hubert", tmp_path / "speech")))
