"""openSMILE's feature sets, one vector a clip: eGeMAPSv02 (88) and ComParE 2016 (6,373).

Eyben et al. 2016, IEEE Trans. Affective Computing 7(2); Schuller et al. 2016, Interspeech (ComParE). Computed by
audEERING's ``opensmile`` (Eyben et al. 2010, ACM Multimedia), the extra of that name, whose licence is for
research and private use. Imported when the first clip is computed.
"""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ConfigError
from p2pser.config import FeatureSettings

SIZES = {"egemaps": 88, "compare": 6373}
"""Length of the vector of each set."""

_NAMES = {"egemaps": "eGeMAPSv02", "compare": "ComParE_2016"}


def version() -> str:
    """Return the version of opensmile that is installed; raises ConfigError where none is."""
    try:
        return importlib.metadata.version("opensmile")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError("features.kind egemaps and compare are openSMILE's, which is not installed: "
                          "pip install 'p2pser[opensmile]'") from None


@lru_cache(maxsize=len(SIZES))
def _smile(kind: str) -> Any:
    version()
    import opensmile

    return opensmile.Smile(opensmile.FeatureSet[_NAMES[kind]], opensmile.FeatureLevel.Functionals)


def names(settings: FeatureSettings) -> list[str]:
    """Return the names that the set gives its entries, after ``egemaps.`` or ``compare.``; raises ConfigError
    without openSMILE.
    """
    return [f"{settings.kind}.{name}" for name in _smile(settings.kind).feature_names]


def shape(settings: FeatureSettings) -> tuple[int]:
    """Return the shape of the set's vector: (D,)."""
    return (SIZES[settings.kind],)


def compute(signal: NDArray[np.float32], settings: FeatureSettings) -> NDArray[np.float32]:
    """Return the vector (D,) float32 of a signal (samples,) at ``settings.sample_rate``, of the set that is the
    settings' one kind; raises ConfigError without openSMILE.

    What openSMILE leaves undefined is 0.
    """
    table = _smile(settings.kind).process_signal(signal, settings.sample_rate)
    vector: NDArray[np.float32] = table.to_numpy(dtype=np.float32)[0]
    return np.nan_to_num(vector, nan=0.0, posinf=0.0, neginf=0.0)
