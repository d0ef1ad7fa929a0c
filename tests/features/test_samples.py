"""Samples of any numeric type and layout are those of a recording, or are refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from p2pser.base.errors import CorpusError
from p2pser.features.samples import checked_rate, scaled


@pytest.mark.parametrize(("samples", "expected"), [
    (np.array([-32768, 0, 16384], dtype=np.int16), [-1.0, 0.0, 0.5]),
    (np.array([-128, 0, 64], dtype=np.int8), [-1.0, 0.0, 0.5]),
    (np.array([0, 128, 192], dtype=np.uint8), [-1.0, 0.0, 0.5]),
    (np.array([0, 32768, 49152], dtype=np.uint16), [-1.0, 0.0, 0.5]),
    (np.array([-(2**31), 0, 2**30], dtype=np.int32), [-1.0, 0.0, 0.5]),
    (np.array([-1.5, 0.0, 0.5], dtype=np.float64), [-1.5, 0.0, 0.5]),
    (np.array([-1.0, 0.0, 0.5], dtype=np.float16), [-1.0, 0.0, 0.5]),
    ([-1.0, 0.0, 0.5], [-1.0, 0.0, 0.5]),
], ids=["int16", "int8", "uint8", "uint16", "int32", "float64", "float16", "list"])
def test_each_type_has_its_own_full_scale(samples: Any, expected: list[float]) -> None:
    found = scaled(samples)
    assert found.dtype == np.float32
    assert found.tolist() == expected


def test_samples_of_16_bits_are_those_that_their_file_gives(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, 999, dtype=np.int16, endpoint=True)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    assert np.array_equal(scaled(samples), soundfile.read(tmp_path / "a.wav", dtype="float32")[0])


def test_the_longer_axis_is_time() -> None:
    left, right = np.linspace(0, 1, 5, dtype=np.float32), np.zeros(5, dtype=np.float32)
    for samples in (np.stack([left, right]), np.stack([left, right], axis=1)):
        found = scaled(samples)
        assert found.shape == (5, 2)
        assert np.array_equal(found[:, 0], left)


@pytest.mark.parametrize(("samples", "sentence"), [
    (np.array([3000.0, -12000.0]), "samples reach 12000, and full scale is 1"),
    (np.array([1, 2]), "samples of type int64"),
    (np.array([1j]), "samples of type complex128"),
    (np.array(["a"]), "samples of type <U1"),
    (np.array([True]), "samples of type bool"),
    (np.array([None]), "samples of type object"),
    (np.zeros(0), r"samples of shape \(0,\)"),
    (np.float32(0.5), r"samples of shape \(\)"),
    (np.zeros((2, 3, 4)), r"samples of shape \(2, 3, 4\)"),
    (np.zeros((9, 9)), r"samples of shape \(9, 9\): which axis"),
    ([[0.1, 0.2], [0.3]], "the samples are no array of numbers"),
    (torch.zeros(9, requires_grad=True), "the samples are no array of numbers"),
    (np.zeros((999, 65)), r"samples of shape \(999, 65\): which axis"),
], ids=["16 bits as floats", "int64", "complex", "text", "bool", "object", "empty", "a number", "a cube", "a square",
        "ragged", "gradient", "65 channels"])
def test_what_are_no_samples_is_refused(samples: Any, sentence: str) -> None:
    with pytest.raises(CorpusError, match=sentence):
        scaled(samples)


def test_samples_that_are_not_finite_are_left_to_the_check_of_recordings() -> None:
    assert np.isnan(scaled(np.array([np.nan, 0.5]))).any()
    assert np.isinf(scaled(np.array([np.inf, 0.5]))).any()


@pytest.mark.parametrize("rate", [1000, 22050.5, np.int64(8000), np.float32(16000), 1_000_000])
def test_rates_are_numbers(rate: Any) -> None:
    assert checked_rate(rate) == float(rate)


@pytest.mark.parametrize("rate", [1, 999.9, 0, -16000, 1_000_001, float("nan"), float("inf"), "16000", None, True,
                                  np.array([16000]), 16000j])
def test_other_rates_are_refused(rate: Any) -> None:
    with pytest.raises(CorpusError, match="give a number of samples a second from 1000 to 1000000"):
        checked_rate(rate)
