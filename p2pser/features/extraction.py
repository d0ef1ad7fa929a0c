"""The features of many clips: from the cache, or computed here or in helper processes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2pser.base.progress import progress as progress_bar
from p2pser.config import FeatureSettings
from p2pser.features import cache, clip_features, extractor
from p2pser.features.kind import Array
from p2pser.features.kinds.words import plain
from p2pser.features.recording_copies import Variant

NO_WORDS = "it has no transcript, and the features are of words alone"


@dataclass(frozen=True)
class Extraction:
    """Features of clips, in their order.

    Attributes
    ----------
    features : of each clip; None where the clip cannot be used.
    left_out : (path, reason) of those clips.
    computed : number of clips that were read and computed.
    cached : number of clips that were found in the cache.
    wall_s : time that it took [s].
    """

    features: list[Array | None]
    left_out: list[tuple[Path, str]]
    computed: int
    cached: int
    wall_s: float


def extract(
    paths: Sequence[Path], settings: FeatureSettings, *, texts: Sequence[str] | None = None,
    variant: Variant | None = None, workers: int | None = None, progress: bool = False
) -> Extraction:
    """Return the features of clips, from the cache where they were computed before.

    Parameters
    ----------
    paths : the recordings.
    settings : the kinds of features and what they depend on.
    texts : the transcript of each, "" where it has none; they are neither cached nor given to other processes.
    variant : of these copies of the recordings, instead of the recordings themselves.
    workers : number of processes that compute missing features (1: this one; default: one for each usable core where
        there are many clips).
    progress : whether to show a bar on standard error.

    Raises ConfigError where an extra or an encoder is missing.
    """
    heard = clip_features.of_sound(settings)
    sentences = ("",) * len(paths) if texts is None else texts
    if heard is None:
        return _of_words(paths, sentences, settings)
    sound = _of_sound(paths, heard, variant, workers, progress)
    if heard is settings:
        return sound
    usable = [number for number, values in enumerate(sound.features) if values is not None]
    both = list(sound.features)
    for number, values in zip(usable, clip_features.with_words(
            [both[number] for number in usable], [sentences[number] for number in usable], settings)):
        both[number] = values
    return replace(sound, features=both)


def _of_words(paths: Sequence[Path], texts: Sequence[str], settings: FeatureSettings) -> Extraction:
    """Return the features of transcripts alone: no recording is opened."""
    began = time.perf_counter()
    read = iter(clip_features.with_words([None] * len(paths), [text for text in texts if plain(text)], settings))
    features = [next(read) if plain(text) else None for text in texts]
    left_out = [(path, NO_WORDS) for path, values in zip(paths, features) if values is None]
    return Extraction(features, left_out, len(paths) - len(left_out), 0, time.perf_counter() - began)


def _of_sound(paths: Sequence[Path], settings: FeatureSettings, variant: Variant | None, workers: int | None,
              progress: bool) -> Extraction:
    began = time.perf_counter()
    places = clip_features.stores(settings, variant)
    index = cache.Index()
    results: list[Array | None] = [None] * len(paths)
    missing: dict[Path, list[int]] = {}
    for number, path in enumerate(paths):
        digest = index.find(path)
        results[number] = None if digest is None else clip_features.cached(digest, places, settings)
        if results[number] is None:
            missing.setdefault(path, []).append(number)
    helpers = extractor.helpers(workers, len(missing))
    reasons: dict[int, str] = {}
    cached = len(paths) - sum(map(len, missing.values()))
    computed = 0
    # Processes that start at once, such as peers of one machine with the same test clips, begin at different clips:
    # what one of them has computed, the others find in the cache.
    order = list(missing)
    first = (os.getpid() * 2654435761 >> 8) % max(1, len(order))
    with progress_bar("features", len(missing), wanted=progress and bool(missing), transient=True) as bar:
        outcomes = extractor.outcomes(order[first:] + order[:first], settings, helpers, variant)
        for outcome in outcomes:
            for number in missing[outcome.path]:
                results[number] = outcome.features
                if outcome.reason is not None:
                    reasons[number] = outcome.reason
            if outcome.digest is not None and outcome.stamp is not None:
                index.remember(outcome.path, outcome.digest, outcome.stamp)
            computed += outcome.computed
            cached += len(missing[outcome.path]) if not outcome.computed and outcome.reason is None else 0
            bar.advance()
    index.write()
    left_out = [(paths[number], reasons[number]) for number in sorted(reasons)]
    return Extraction(results, left_out, computed, cached, time.perf_counter() - began)
