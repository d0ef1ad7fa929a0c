"""Statistics of features that every site computes alike, without a message: those of the synthetic corpus."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError
from p2pser.config import FeatureSettings
from p2pser.corpora import synthetic
from p2pser.features.extraction import extract
from p2pser.features.normalisation import Statistics, statistics

SOURCE = "the synthetic corpus"
GRID = 2.0**-10
"""Mean and standard deviation are multiples of this times the power of 2 at or below the standard deviation."""


def recipe() -> str:
    """Return what the clips are made of, equal wherever they are made alike: peers compare it by name.

    The statistics themselves are not compared: their last bits may differ between types of processor.
    """
    try:
        maker = version("espeakng-loader")
    except PackageNotFoundError:
        maker = "not installed"
    return f"synthetic {synthetic.VERSION}, espeakng-loader {maker}"


def public_statistics(settings: FeatureSettings) -> Statistics:
    """Return the statistics of the synthetic corpus's features, which is made on first use (some seconds).

    Rounded to ``GRID``, so that last bits of features do not matter. Raises CorpusError where espeak-ng is missing or a
    clip cannot be used, ConfigError where an extra of the kind of features is missing.
    """
    return _computed(settings.model_dump_json())


@lru_cache(maxsize=8)
def _computed(settings: str) -> Statistics:
    clips = synthetic.corpus().clips
    extraction = extract([clip.path for clip in clips], FeatureSettings.model_validate_json(settings),
                         texts=[clip.transcript for clip in clips])
    if extraction.left_out:
        path, why = extraction.left_out[0]
        raise CorpusError(f"features.normalise=public needs all clips of {SOURCE}, and {path} cannot be used: {why}")
    exact = statistics(np.stack([values for values in extraction.features if values is not None]))
    return Statistics(exact.count, _rounded(exact.mean, exact.std), _rounded(exact.std, exact.std))


def _rounded(values: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values on a grid of a power of 2 near ``std`` / 1024; where std is 0 they stay."""
    step = np.where(std > 0, GRID * 2.0 ** np.floor(np.log2(np.where(std > 0, std, 1.0))), 1.0)
    return np.where(std > 0, np.round(values / step) * step, values)
