"""openSMILE's feature sets, one vector a clip: eGeMAPSv02 (88 entries) and ComParE 2016 (6,373).

Eyben et al. 2016, IEEE Trans. Affective Computing 7(2); Schuller et al. 2016, Interspeech (ComParE). Computed by
audEERING's ``opensmile`` (Eyben et al. 2010, ACM Multimedia), the extra of that name, whose licence is for
research and private use. It is imported when the first clip is computed.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from p2pser.base.errors import ConfigError
from p2pser.features.kind import Array, FeatureKind


@dataclass(frozen=True, kw_only=True)
class OpenSmileSet(FeatureKind):
    """The functionals of one of openSMILE's sets; what openSMILE leaves undefined is 0."""

    version = 2

    set_name: ClassVar[str]
    """Name in ``opensmile.FeatureSet``."""
    prefix: ClassVar[str]
    """Beginning of the names of the vector's entries."""
    size: ClassVar[int]
    """Length of the vector."""

    def compute(self, signal: Array) -> Array:
        """Return the vector (D,) of a signal (samples,). Raises ConfigError without openSMILE."""
        table = _smile(self.set_name).process_signal(signal, self.sample_rate)
        vector: Array = table.to_numpy(dtype=np.float32)[0]
        return np.nan_to_num(vector, nan=0.0, posinf=0.0, neginf=0.0)

    def names(self) -> list[str]:
        """Return openSMILE's names after the set's prefix. Raises ConfigError without openSMILE."""
        return [f"{self.prefix}.{name}" for name in _smile(self.set_name).feature_names]

    def shape(self) -> tuple[int, ...]:
        """Return (D,); openSMILE need not be installed."""
        return (self.size,)

    def source(self) -> str:
        """Return the version of openSMILE. Raises ConfigError where it is not installed."""
        return f"opensmile {_version()}"


def _version() -> str:
    try:
        return importlib.metadata.version("opensmile")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError("features.kind egemaps and compare are computed by openSMILE, which is not installed: "
                          "pip install 'p2pser[opensmile]'") from None


@lru_cache(maxsize=2)
def _smile(set_name: str) -> Any:
    _version()
    import opensmile

    return opensmile.Smile(opensmile.FeatureSet[set_name], opensmile.FeatureLevel.Functionals)
