"""What a kind of features is: the base class of the built-in kinds and of those of other packages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ConfigError, raised_as
from p2pser.base.parameters import parameter_types, typed
from p2pser.base.registries import FEATURES
from p2pser.config import FeatureSettings

Array = NDArray[np.float32]
K = TypeVar("K", bound="FeatureKind")


@dataclass(frozen=True, kw_only=True)
class FeatureKind(ABC):
    """One kind of features: a frozen dataclass whose fields are the settings that its values depend on.

    A field with the name of a setting of ``features`` (``sample_rate``, ``n_mels``, ``seconds``, …) takes the value
    of that setting. Any other field is a hyper-parameter of this kind alone, of type int, float, str or bool, and is
    set in ``features.parameters``. The fields and ``version`` are part of the key of the feature cache.

    Example
    -------
    >>> @FEATURES.register("loudness-parts")
    ... @dataclass(frozen=True, kw_only=True)
    ... class LoudnessParts(FeatureKind):
    ...     parts: int = 4
    ...     def names(self):
    ...         return [f"loudness.{k}" for k in range(self.parts)]
    ...     def compute(self, signal):
    ...         return np.array([np.square(part).mean() for part in np.array_split(signal, self.parts)])
    >>> LoudnessParts.of(FeatureSettings(kind="loudness-parts", parameters={"parts": 2})).shape()
    (2,)
    """

    version: ClassVar[int | str] = 1
    """Version of the code: change it when any value changes, so that cached features are computed again."""
    vector: ClassVar[bool] = True
    """Whether the features of a clip are one vector; else they are a matrix, bands by frames."""

    attached: ClassVar[bool] = False
    """Whether more is attached to each vector, which only some families of models take: (F, 1, 2 + more), as
    ``p2pser.features.normalisation`` says. Such a kind is not joined to others."""

    of_words: ClassVar[bool] = False
    """Whether the features are of a clip's transcript (``read``), not of its sound. They are not cached."""

    sample_rate: int
    """Samples per second of the signal that ``compute`` gets [Hz]."""

    @classmethod
    def of(cls: type[K], settings: FeatureSettings) -> K:
        """Return this kind with its settings. Raises ConfigError where one is missing or has the wrong type."""
        own = cls.own_parameters()
        given = {name: value for name, value in settings.parameters.items() if name in own}
        values = typed(given, own, "features.parameters", cls.__name__) if given else {}
        for field in fields(cls):
            if field.name not in own:
                values[field.name] = getattr(settings, field.name)
            elif field.name not in given and field.default is MISSING:
                raise ConfigError(f"features.parameters: {settings.kind} needs a value for {field.name}")
        return cls(**values)

    @classmethod
    def own_parameters(cls) -> dict[str, Any]:
        """Return name -> type of the hyper-parameters that belong to this kind alone."""
        return {name: kind for name, kind in parameter_types(cls).items() if name not in FeatureSettings.model_fields}

    @abstractmethod
    def compute(self, signal: Array) -> Array:
        """Return the features of a signal (samples,) at ``sample_rate``, full scale 1, float32: finite, not scaled."""

    def read(self, text: str) -> Array:
        """Return the features of a transcript; those that are ``of_words`` override it. "" is a clip without one."""
        return np.zeros(self.shape(), dtype=np.float32)

    def read_all(self, texts: Sequence[str]) -> Array:
        """Return the features (n, D) of n transcripts: ``read`` of each."""
        return np.stack([self.read(text) for text in texts]) if texts else np.zeros((0, *self.shape()), np.float32)

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of a vector's entries, or of a matrix's bands."""

    def shape(self) -> tuple[int, ...]:
        """Return the shape of a clip's features: (D,), or (bands, frames) of a matrix."""
        with raised_as(ConfigError, f"the names of the feature kind {type(self).__name__} cannot be counted"):
            count = len(self.names())
        if count == 0:
            raise ConfigError(f"the feature kind {type(self).__name__} has no names: name each value")
        return (count,)

    def source(self) -> str | None:
        """Return what the features depend on besides the code and the settings, such as a library's version.

        Raises ConfigError where it is not installed.
        """
        return None

    def cache_settings(self) -> dict[str, Any]:
        """Return the settings that enter the cache key, by name.

        A field that has the name of a ``features`` setting and a default came later than the first caches: it enters
        the key only where it differs from that default, so that older keys stay valid.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        later = {field.name: field.default for field in fields(self)
                 if field.default is not MISSING and field.name in FeatureSettings.model_fields}
        return {name: value for name, value in values.items() if name not in later or value != later[name]}

    def cached_shape(self) -> tuple[int, ...]:
        """Return the shape of what ``compute`` returns and the cache keeps, where it is not yet the features."""
        return self.shape()

    def finish(self, cached: Array) -> Array:
        """Return a clip's features of what ``compute`` returned."""
        return cached


def kinds_of(settings: FeatureSettings) -> list[FeatureKind]:
    """Return the single kinds that ``features.kind`` joins, in order, each with its settings.

    Raises ConfigError where a kind is unknown or one of its settings is missing.
    """
    return [kind_class(name).of(settings) for name in settings.kinds]


def kind_class(name: str) -> type[FeatureKind]:
    """Return the class of a kind. Raises ConfigError where it is unknown or is not a FeatureKind."""
    cls = FEATURES[name]
    if not (isinstance(cls, type) and issubclass(cls, FeatureKind)):
        raise ConfigError(f"the feature kind {name!r} of {FEATURES.origin(name)} is not a subclass of FeatureKind")
    return cls
