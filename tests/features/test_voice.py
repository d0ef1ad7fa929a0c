"""The gate for speech tells other sounds from speech, clean, noisy, quiet and over the telephone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.corpora import loading as corpora
from p2pser.features import voice
from p2pser.features.voice import MUSIC, NO_VOICE, STEADY, TONES, TOO_SHORT, no_speech

RATE = 16000
SECONDS = 2.0
TIME = np.arange(round(SECONDS * RATE)) / RATE
SIZE = len(TIME)

Noise = np.random.Generator
Array = np.ndarray


def coloured(draws: Noise, power: float) -> Array:
    """Noise whose amplitude falls with frequency to this power."""
    places = np.maximum(np.fft.rfftfreq(SIZE, 1 / RATE), 1.0)
    noise = np.fft.irfft(np.fft.rfft(draws.standard_normal(SIZE)) / places**power, SIZE)
    return noise / np.abs(noise).max()


def note(pitch: float, time: Array, decay: float = 2.0) -> Array:
    return sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 8)) * np.exp(-decay * time)  # type: ignore[no-any-return]


def placed(draws: Noise, every: float, length: float, sound: Callable[[Array], Array]) -> Array:
    """A sound again and again."""
    out = np.zeros(SIZE)
    for start in range(0, SIZE - round(length * RATE), round(every * RATE)):
        time = np.arange(round(length * RATE)) / RATE
        out[start:start + len(time)] += sound(time)
    return out


def tones(time: Array, *pitches: float) -> Array:
    return sum(np.sin(2 * np.pi * pitch * time) for pitch in pitches)  # type: ignore[return-value]


SPEECH_LIKE = np.clip(0.5 + 0.5 * np.sin(2 * np.pi * 4 * TIME) + 0.3 * np.sin(2 * np.pi * 2.3 * TIME + 1), 0, None)

SOUNDS: dict[str, tuple[str, Callable[[Noise], Array]]] = {
    "a DC offset with a little noise": (STEADY, lambda d: 0.4 + 0.001 * d.standard_normal(SIZE)),
    "white noise": (STEADY, lambda d: 0.1 * d.standard_normal(SIZE)),
    "pink noise": (STEADY, lambda d: coloured(d, 0.5)),
    "brown noise": (STEADY, lambda d: coloured(d, 1.0)),
    "a sine": (TONES, lambda d: 0.3 * tones(TIME, 440)),
    "a chord": (MUSIC, lambda d: 0.1 * sum(note(pitch, TIME) for pitch in (261.6, 329.6, 392.0))),
    "a melody": (MUSIC, lambda d: placed(d, 0.4, 0.4, lambda t: 0.2 * note(220 * 2 ** (d.integers(13) / 12), t))),
    "clicks": (NO_VOICE, lambda d: 0.9 * (np.arange(SIZE) % (RATE // 3) == 0)),
    "mains hum": (STEADY, lambda d: sum(0.2 * tones(TIME, 50 * k) / k for k in (1, 2, 3, 5, 7, 9))),
    "an engine": (STEADY, lambda d: 0.05 * coloured(d, 0.5) + 0.1 * note(1, np.cumsum(30 + 5 * np.sin(2 * TIME)) / RATE,
                                                                         0.0)),
    "a dial tone": (TONES, lambda d: 0.2 * tones(TIME, 350, 440)),
    "a busy tone": (TONES, lambda d: 0.3 * tones(TIME, 425) * (TIME % 0.96 < 0.48)),
    "dialling": (TONES, lambda d: placed(d, 0.2, 0.1, lambda t: 0.3 * tones(
        t, (697, 770, 852, 941)[d.integers(4)], (1209, 1336, 1477)[d.integers(3)]))),
    "clapping": (NO_VOICE, lambda d: placed(d, 0.3, 0.05, lambda t: d.standard_normal(len(t)) * np.exp(-t / 0.008))),
    "noise with the envelope of speech": (NO_VOICE, lambda d: 0.1 * d.standard_normal(SIZE) * SPEECH_LIKE),
    "pink noise with the envelope of speech": (NO_VOICE, lambda d: coloured(d, 0.5) * SPEECH_LIKE),
    "a clipped square wave": (STEADY, lambda d: np.clip(5 * tones(TIME, 220), -1, 1)),
    "dogs' chirps": (TONES, lambda d: placed(d, 0.6, 0.2, lambda t: 0.5 * np.exp(-t / 0.08) * np.sign(
        tones(np.cumsum(900 - 2500 * t) / RATE, 1)))),
    "a modem": (TONES, lambda d: placed(d, 0.02, 0.02, lambda t: 0.3 * tones(t, 1200 if d.random() < 0.5 else 2200))),
    "a sweep": (TONES, lambda d: 0.2 * note(1, np.cumsum(100 + 100 * TIME) / RATE, 0.0)),
    "music with a beat": (MUSIC, lambda d: placed(
        d, 0.5, 0.5, lambda t: 0.2 * note(220 * 2 ** (d.integers(13) / 12), t)) + placed(
            d, 0.25, 0.05, lambda t: 0.5 * d.standard_normal(len(t)) * np.exp(-t / 0.01))),
    "a siren of two notes": (MUSIC, lambda d: 0.2 * note(1, np.cumsum(np.where(TIME % 1 < 0.5, 440, 585)) / RATE, 0.0)),
    "a square wave on and off": (MUSIC, lambda d: np.clip(5 * tones(TIME, 220), -1, 1) * (TIME % 0.5 < 0.25)),
    "rain": (STEADY, lambda d: 0.05 * d.standard_normal(SIZE) + sum(placed(d, 0.011 + 0.003 * k, 0.01, lambda t: (
        0.1 * d.random() * d.standard_normal(len(t)) * np.exp(-t / 0.002))) for k in range(4))),
    "very quiet noise": (STEADY, lambda d: 0.0005 * d.standard_normal(SIZE)),
    "a vacuum cleaner": (STEADY, lambda d: 0.1 * d.standard_normal(SIZE) + 0.1 * note(110, TIME, 0.0)),
    "hum with noise": (STEADY, lambda d: 0.05 * d.standard_normal(SIZE)
                       + sum(0.2 * tones(TIME, 50 * k) / k for k in (1, 2, 3, 5, 7, 9))),
    "wind": (NO_VOICE, lambda d: coloured(d, 1.0) * (1 + 0.8 * np.sin(2 * np.pi * 0.7 * TIME))),
    "birds": (NO_VOICE, lambda d: placed(d, 0.3, 0.12, lambda t: 0.4 * np.sin(np.pi * t / 0.12) * tones(
        np.cumsum(3000 + 8000 * t + 500 * d.random()) / RATE, 1))),
    "a siren": (TONES, lambda d: 0.3 * tones(np.cumsum(700 + 300 * np.sin(np.pi * TIME)) / RATE, 1)),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_what_is_no_speech_is_told(name: str) -> None:
    reason, sound = SOUNDS[name]
    for seed in range(3):
        assert no_speech(sound(np.random.default_rng(seed)).astype(np.float32), RATE) == reason


def test_silence_and_what_is_too_short_are_no_speech() -> None:
    assert no_speech(np.zeros(RATE, np.float32), RATE) is not None
    assert no_speech(np.full(RATE, 0.3, np.float32), RATE) is not None
    assert no_speech(np.ones(RATE // 5, np.float32), RATE) == TOO_SHORT


def clips(folder: Path, count: int) -> list[Array]:
    found = sorted(folder.rglob("*.flac"))
    return [soundfile.read(path, dtype="float32")[0] for path in found[:: len(found) // count]]


@pytest.mark.parametrize("corpus", ["emodb", "ravdess"])
def test_speech_is_heard_clean_quiet_noisy_and_over_the_telephone(shared_data: Path, corpus: str) -> None:
    draws = np.random.default_rng(0)
    for signal in clips(shared_data / corpus, 12):
        noise = draws.standard_normal(len(signal))
        noise *= np.sqrt((signal**2).mean() / 10 / (noise**2).mean())  # 10 dB below
        spectrum, places = np.fft.rfft(signal), np.fft.rfftfreq(len(signal), 1 / RATE)
        telephone = np.fft.irfft(np.where((places > 300) & (places < 3400), spectrum, 0), len(signal))
        for heard in (signal, 0.003 * signal, signal + noise, telephone, signal[::2]):
            assert no_speech(heard, RATE // 2 if len(heard) < len(signal) else RATE) is None


def test_speech_is_found_within_a_long_recording() -> None:
    signal, rate = soundfile.read(corpora.load("synthetic", None).clips[-1].path, dtype="float32")
    noise = 0.5 * np.random.default_rng(0).standard_normal(25 * rate).astype(np.float32)
    assert no_speech(noise, rate) == STEADY
    assert no_speech(np.concatenate([noise, signal]), rate) is None


def test_most_synthetic_speech_passes() -> None:
    chosen = corpora.load("synthetic", None).clips[::3]
    refused = sum(no_speech(*soundfile.read(clip.path, dtype="float32")) is not None for clip in chosen)
    assert refused <= 0.03 * len(chosen)


def test_the_reason_is_that_of_the_loudest_part() -> None:
    quiet = 0.01 * np.random.default_rng(0).standard_normal(10 * RATE)
    loud = 0.5 * tones(np.arange(10 * RATE) / RATE, 440)
    assert no_speech(np.concatenate([quiet, loud]).astype(np.float32), RATE) == TONES
    assert voice.measured(loud.astype(np.float32), RATE).lines > 0.999
