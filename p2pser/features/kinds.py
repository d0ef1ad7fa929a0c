"""What a model sees of a clip: one vector or a matrix (bands, frames), of one kind or of several joined.

Light to import: librosa, openSMILE, torch, soundfile and helper processes are imported where a clip is really
computed, so a peer whose features are all cached pays for none of them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pser.config import FeatureSettings
from p2pser.features import cache, dynamics, encoders, functionals, levels, matrices, opensmile_sets
from p2pser.features.recording_copies import Variant

Array = NDArray[np.float32]


class Kind(Protocol):
    """The module of a kind of features, all for the settings' one kind."""

    def compute(self, signal: Array, settings: FeatureSettings, /) -> Array:
        """Return what the cache keeps of a signal (samples,) at ``settings.sample_rate``, float32 and finite."""

    def shape(self, settings: FeatureSettings, /) -> tuple[int, ...]:
        """Return the shape of it."""

    def names(self, settings: FeatureSettings, /) -> list[str]:
        """Return the names of a vector's entries or of a matrix's bands."""


_KINDS: dict[str, Kind] = {
    "functionals": functionals, "dynamics": dynamics, "egemaps": opensmile_sets, "compare": opensmile_sets,
    "ssl": encoders, "logmel": matrices, "mfcc": matrices, "chroma": matrices,
}


# -- one clip ------------------------------------------------------------------------------------------------


def parts(settings: FeatureSettings) -> list[FeatureSettings]:
    """Return the settings of each single kind, in the order in which they are joined."""
    return [settings.model_copy(update={"kind": kind}) for kind in settings.kinds]


def raw(signal: NDArray[np.floating], settings: FeatureSettings) -> Array:
    """Return what the cache keeps of one signal and one kind: of ssl all layers' means, else the features."""
    samples = levels.prepared(np.ascontiguousarray(signal, dtype=np.float32), settings)
    return _KINDS[settings.kind].compute(samples, settings)


def raw_shape(settings: FeatureSettings) -> tuple[int, ...]:
    """Return the shape of what ``raw`` returns; raises ConfigError for ssl without its encoder."""
    return _KINDS[settings.kind].shape(settings)


def join(raws: Sequence[Array], settings: FeatureSettings) -> Array:
    """Return a clip's features of what ``raw`` gave for each of its ``parts``."""
    found = [encoders.weighted(part, settings) if kind == "ssl" else part for kind, part in zip(settings.kinds, raws)]
    return found[0] if len(found) == 1 else np.concatenate(found)


def compute(signal: NDArray[np.floating], settings: FeatureSettings) -> Array:
    """Return the features of one signal (samples,) mono at ``settings.sample_rate``, full scale 1.

    A vector (D,) or a matrix (bands, frames), as ``shape`` says: float32 and finite, not normalised; joined kinds one
    after the other. Raises ConfigError where an extra or an encoder is missing.
    """
    return join([raw(signal, part) for part in parts(settings)], settings)


def names(settings: FeatureSettings) -> list[str]:
    """Return the names of the features: of the D entries of a vector, or of a matrix's bands."""
    return [name for part in parts(settings) for name in _KINDS[part.kind].names(part)]


def shape(settings: FeatureSettings) -> tuple[int, ...]:
    """Return the shape of one clip's features: (D,) or (bands, frames)."""
    shapes = [raw_shape(part)[1:] if part.kind == "ssl" else raw_shape(part) for part in parts(settings)]
    return (sum(one[0] for one in shapes), *shapes[0][1:])


def stores(settings: FeatureSettings, variant: Variant | None = None) -> list[cache.Store]:
    """Return where the cache keeps each of the ``parts``, of recordings or of their copies."""
    key = "" if variant is None else variant.key()
    return [cache.Store(part, raw_shape(part), variant=key) for part in parts(settings)]


def find(digest: str, where: Sequence[cache.Store], settings: FeatureSettings) -> Array | None:
    """Return the features of a recording with this content, or None where not all parts are in their stores."""
    raws = []
    for store in where:
        found = store.get(digest)
        if found is None:
            return None
        raws.append(found)
    return join(raws, settings)


# -- many clips ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extraction:
    """Features of clips, in their order, and what it took.

    ``features[k]`` is None where clip k cannot be used; ``left_out`` says why. ``computed`` clips were read
    and computed, in ``wall_s`` seconds in all; ``cached`` were found.
    """

    features: list[Array | None]
    left_out: list[tuple[Path, str]]
    computed: int
    cached: int
    wall_s: float


def extract(
    paths: Sequence[Path], settings: FeatureSettings, *, variant: Variant | None = None, workers: int | None = None,
    progress: bool = False
) -> tuple[list[Array | None], list[tuple[Path, str]]]:
    """Return the features of clips, in order, and (path, reason) of those that cannot be used (None there).

    Found in the cache where they were computed before. ``variant``: of these copies of the recordings. ``workers``
    processes compute the others (1: this one; default: one a usable core where there are many); ``progress`` shows a
    bar on standard error.
    """
    done = extraction(paths, settings, variant=variant, workers=workers, progress=progress)
    return done.features, done.left_out


def extraction(
    paths: Sequence[Path], settings: FeatureSettings, *, variant: Variant | None = None, workers: int | None = None,
    progress: bool = False
) -> Extraction:
    """Do the same as ``extract`` and say what was computed and what was found."""
    from p2pser.features import extractor  # which imports this module

    began = time.perf_counter()
    where = stores(settings, variant)
    index = cache.Index()
    results: list[Array | None] = [None] * len(paths)
    missing: dict[Path, list[int]] = {}
    for place, path in enumerate(paths):
        digest = index.find(path)
        results[place] = None if digest is None else find(digest, where, settings)
        if results[place] is None:
            missing.setdefault(path, []).append(place)
    helpers = extractor.helpers(workers, len(missing))
    reasons: dict[int, str] = {}
    found = len(paths) - sum(map(len, missing.values()))
    computed = 0
    # Processes that start at once, such as peers of one machine with the same test clips, each begin elsewhere:
    # what one has computed, the others find.
    order = list(missing)
    turn = (os.getpid() * 2654435761 >> 8) % max(1, len(order))
    with _bar(len(missing), progress and bool(missing)) as advance:
        for outcome in extractor.outcomes(order[turn:] + order[:turn], settings, helpers, variant):
            for place in missing[outcome.path]:
                results[place] = outcome.features
                if outcome.reason is not None:
                    reasons[place] = outcome.reason
            if outcome.digest is not None and outcome.stamp is not None:
                index.remember(outcome.path, outcome.digest, outcome.stamp)
            computed += outcome.computed
            found += len(missing[outcome.path]) if not outcome.computed and outcome.reason is None else 0
            advance()
    index.write()
    left_out = [(paths[place], reasons[place]) for place in sorted(reasons)]
    return Extraction(results, left_out, computed, found, time.perf_counter() - began)


@contextlib.contextmanager
def _bar(total: int, wanted: bool) -> Iterator[Callable[[], None]]:
    if not wanted:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("features", total=total)
        yield lambda: bar.advance(task)
