"""The figures of predictions as data and text, and the CSV with a row per prediction."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pser.base.errors import ConfigError
from p2pser.evaluation import listing
from p2pser.evaluation.calibration import fit_temperature
from p2pser.evaluation.metrics import Predictions, uar_folds, uar_pooled
from p2pser.evaluation.report import Report
from p2pser.evaluation.summary import group_lines, summarise

LABELS = ("anger", "fear", "joy")


def made(seed: int = 0, skill: float = 2.0, speakers: int = 6, clips: int = 30) -> Predictions:
    data, draws = np.random.default_rng(99), np.random.default_rng(seed)
    n = speakers * clips
    targets = data.integers(0, 3, n)
    logits = draws.normal(0, 1, (n, 3)) + skill * np.eye(3)[targets]
    names = [f"s{k}" for k in range(speakers) for _ in range(clips)]
    return Predictions.of(targets, logits.argmax(1), names, 3, np.repeat(np.arange(speakers), clips), logits=logits * 3,
                          genders=["fm"[int(name[1:]) % 2] for name in names], paths=[f"{k}.wav" for k in range(n)])


def test_figures_of_several_seeds_are_means() -> None:
    several = [made(0), made(1)]
    found = summarise(several, LABELS)
    json.dumps(found, allow_nan=False)
    assert found["uar"]["folds"] == pytest.approx(np.mean([uar_folds(one) for one in several]))
    assert found["uar"]["pooled"] == pytest.approx(np.mean([uar_pooled(one) for one in several]))
    assert found["uar"]["folds_interval"][0] < found["uar"]["folds"] < found["uar"]["folds_interval"][1]
    assert found["uar"]["folds_sd"] == pytest.approx(np.std(list(found["uar"]["by_fold"].values()), ddof=1))
    assert np.sum(found["confusion"]) == 2 * 180
    assert found["gender"]["gap"] == pytest.approx(found["gender"]["f"]["uar"] - found["gender"]["m"]["uar"])
    assert found["worst_speaker"]["uar"] == pytest.approx(min(found["uar"]["by_fold"].values()))
    assert found["calibration"]["scaled"] is None
    with pytest.raises(ValueError, match="the same clips"):
        summarise([made(), made(speakers=5)], LABELS)


def report(speakers: int, clips: int) -> str:
    return Report(corpus="c", version="1", synthetic=False, split="loso", labels=LABELS, normalise="none",
                  predictions=made(speakers=speakers, clips=clips)).text()


def test_figures_of_few_speakers_or_clips_say_so() -> None:
    few, enough, more = report(4, 9), report(5, 10), report(10, 10)
    assert "intervals over 4 speakers say little: test on 5 or more" in few
    assert "(2: too few for an interval)" in few
    assert "9 clips (too few to judge by)" in few
    assert "say little" not in enough
    assert "(3: too few for an interval)" in enough
    assert "10 clips (95 % over clips)" in enough
    assert "too few" not in more


def test_what_is_not_known_is_none() -> None:
    said = Predictions.of([0, 1, 0], [0, 0, 0], ["s"] * 3, 3)
    found = summarise([said], LABELS)
    json.dumps(found, allow_nan=False)
    assert (found["gender"], found["worst_speaker"], found["calibration"]) == (None, None, None)
    assert found["uar"]["folds_sd"] is None
    assert found["uar"]["folds_interval"] is None
    assert found["recall"] == {"anger": 1.0, "fear": 0.0, "joy": None}
    assert group_lines(found) == []


def test_a_report_scales_by_the_cards_temperature(tmp_path: Path) -> None:
    report = Report(corpus="c", version="1", synthetic=False, split="loso", labels=LABELS, predictions=made(),
                    normalise="none", temperature=2.0)
    found = report.to_dict()
    assert found["calibration"]["scaled"]["nll"] < found["calibration"]["nll"]
    assert found["temperature"] == 2.0
    for part in ("UAR (a) by gender (speakers)   f 0.", "gap f - m ", "worst speaker   s", "after temperature scaling"):
        assert part in report.text()
    report.write_csv(tmp_path / "new" / "p.csv")
    with (tmp_path / "new" / "p.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 180
    assert list(rows[0]) == ["corpus", "path", "speaker", "gender", "fold", "target", "predicted", "p_anger", "p_fear",
                             "p_joy"]
    assert (rows[31]["path"], rows[31]["speaker"], rows[31]["gender"], rows[31]["fold"]) == ("31.wav", "s1", "m", "1")
    logits = made().logits
    assert logits is not None
    powers = np.exp(logits[31] / 2)
    assert float(rows[31]["p_joy"]) == pytest.approx(powers[2] / powers.sum(), abs=1e-6)


def test_a_temperature_that_was_fitted_on_these_clips_scales_each_speaker_by_the_others() -> None:
    report = Report(corpus="c", version="1", synthetic=False, split="loso", labels=LABELS, predictions=made(),
                    normalise="none", temperature=2.0, fitted_here=True)
    logits, scaled = made().logits, report.scaled
    assert logits is not None
    assert scaled is not None
    assert scaled.logits is not None
    temperatures = (logits / scaled.logits)[:, 0].reshape(6, 30)
    np.testing.assert_allclose(temperatures, temperatures[:, :1].repeat(30, axis=1))
    assert len(np.unique(temperatures.round(6))) == 6
    own = fit_temperature(logits[30:], made().targets[30:])
    assert temperatures[0, 0] == pytest.approx(own)


def test_a_table_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        listing.write(tmp_path, listing.rows(made(), LABELS))


def test_a_table_on_a_full_disk_leaves_the_one_before(tmp_path: Path, room: Callable[[int], Any]) -> None:
    path = tmp_path / "p.csv"
    path.write_text("the table before\n")
    with room(1000), pytest.raises(ConfigError, match=r"p\.csv: File too large; choose another place"):
        listing.write(path, listing.rows(made(), LABELS))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"p.csv": "the table before\n"}


def test_a_table_goes_into_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        listing.write(tmp_path / "pipe", [{"path": "a\udcff.wav", "label": "joy"}])
        assert read.result() == "path,label\na\\udcff.wav,joy\n"
