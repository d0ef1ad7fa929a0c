"""The features of one clip: one vector or one matrix (bands, frames), of one kind or of several joined.

Light to import: librosa, openSMILE, torch and soundfile are imported where a clip is computed, so that a peer whose
features are all cached does not load them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ConfigError, CorpusError, raised_as
from p2pser.config import FeatureSettings
from p2pser.features import cache, encoders, levels
from p2pser.features.kind import Array, FeatureKind, kind_class, kinds_of
from p2pser.features.recording_copies import Variant


def compute(signal: NDArray[np.floating], settings: FeatureSettings, text: str = "") -> Array:
    """Return the features of one signal (samples,), mono, at ``settings.sample_rate``, full scale 1, in which ``text``
    is spoken ("" where that is not known).

    A vector (D,) or a matrix (bands, frames) of the shape that ``shape`` returns: float32, finite, not scaled; joined
    kinds one after the other. Raises ConfigError where an extra or an encoder is missing.
    """
    heard = of_sound(settings)
    if heard is None:
        return with_words([None], [text], settings)[0]
    values = join([compute_kind(signal, name, heard) for name in heard.kinds], heard)
    return values if heard is settings else with_words([values], [text], settings)[0]


def names(settings: FeatureSettings) -> list[str]:
    """Return the names of the features: of the D entries of a vector, or of the bands of a matrix."""
    return [name for kind in kinds_of(settings) for name in kind.names()]


def shape(settings: FeatureSettings) -> tuple[int, ...]:
    """Return the shape of one clip's features: (D,) or (bands, frames).

    Raises ConfigError where joined matrices differ in their frames, or an encoder is missing.
    """
    shapes = [kind.shape() for kind in kinds_of(settings)]
    if len({form[1:] for form in shapes}) > 1:
        frames = ", ".join(f"{name} {form[-1]}" for name, form in zip(settings.kinds, shapes))
        raise ConfigError(f"features.kind {settings.kind} joins matrices that differ in their frames ({frames})")
    return (sum(form[0] for form in shapes), *shapes[0][1:])


def compute_kind(signal: NDArray[np.floating], name: str, settings: FeatureSettings) -> Array:
    """Return what the cache keeps of one signal and one of the settings' kinds.

    Raises CorpusError where the kind fails on this signal, or its result has not the shape that it announced.
    """
    kind = kind_class(name).of(settings)
    samples = levels.prepared(np.ascontiguousarray(signal, dtype=np.float32), settings)
    with raised_as(CorpusError, f"the features {name} cannot be computed of it"):  # it costs the clip, not the run
        values = np.asarray(kind.compute(samples), dtype=np.float32)
    if values.shape != kind.cached_shape():
        raise ConfigError(f"the feature kind {name} returned values of shape {values.shape}, and its shape is "
                          f"{kind.cached_shape()}")
    if not np.isfinite(values).all():
        raise CorpusError(f"its features {name} are not finite")
    return values


def join(values: Sequence[Array], settings: FeatureSettings) -> Array:
    """Return a clip's features of what ``compute_kind`` returned for each of the settings' kinds."""
    parts = [kind.finish(part) for kind, part in zip(kinds_of(settings), values)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def of_sound(settings: FeatureSettings) -> FeatureSettings | None:
    """Return the settings of the kinds that are computed of the sound; None where there is none."""
    heard = [name for name in settings.kinds if not kind_class(name).of_words]
    if len(heard) == len(settings.kinds):
        return settings
    own = {name for kind in heard for name in kind_class(kind).own_parameters()}
    parameters = {name: value for name, value in settings.parameters.items() if name in own}
    return settings.model_copy(update={"kind": "+".join(heard), "parameters": parameters}) if heard else None


def of_words(settings: FeatureSettings) -> NDArray[np.bool_]:
    """Return which entries of a clip's features are computed of its transcript."""
    if not any(kind_class(name).of_words for name in settings.kinds):
        return np.zeros(shape(settings)[0], dtype=bool)
    return np.concatenate([np.full(kind.shape()[0], kind.of_words) for kind in kinds_of(settings)])


def with_words(heard: Sequence[Array | None], texts: Sequence[str], settings: FeatureSettings) -> list[Array]:
    """Return the features of clips in their order: those of each clip's sound (``of_sound``), and those of its
    transcript; the transcripts are read together.
    """
    place = of_words(settings)
    read = np.concatenate([kind.read_all(texts) for kind in kinds_of(settings) if kind.of_words], axis=1)
    features = np.empty((len(texts), len(place)), dtype=np.float32)
    features[:, place] = read
    for values, own in zip(features, heard):
        if own is not None:
            values[~place] = own
    return list(features)


def encoded(settings: FeatureSettings) -> bool:
    """Whether an encoder of speech or text computes some of the features."""
    return not {"ssl", "encoder-states", "sentences"}.isdisjoint(settings.kinds)


def portable(settings: FeatureSettings) -> FeatureSettings:
    """Return settings that other machines can use: encoders go by their identities (``encoders.portable``)."""
    identities = {}
    if settings.encoder is not None and not {"ssl", "encoder-states"}.isdisjoint(settings.kinds):
        identities["encoder"] = encoders.portable(settings.encoder, settings.revision)
    if settings.text_encoder is not None and "sentences" in settings.kinds:
        identities["text_encoder"] = encoders.portable(settings.text_encoder, None, encoders.TEXT)
    return settings.model_copy(update=identities) if identities else settings


# -- cache ---------------------------------------------------------------------------------------------------


def settings_key(settings: FeatureSettings) -> str:
    """Return ``KIND-DIGEST`` of the settings that change the features, joined by + where kinds are joined.

    The digest covers the settings of the kind, its version, and the library or encoder that computes it. Raises
    ConfigError where that is not installed or not available.
    """
    return "+".join(_key(name, kind, settings) for name, kind in zip(settings.kinds, kinds_of(settings)))


def made_by(settings: FeatureSettings) -> str:
    """Return the version of each of the settings' kinds, and of the library or encoder that computes it: peers compare
    them by name. Errors as ``settings_key``.
    """
    sources = [(name, kind.version, kind.source()) for name, kind in zip(settings.kinds, kinds_of(settings))]
    return ", ".join(f"{name} {version}" + (f" ({source})" if source else "") for name, version, source in sources)


def _key(name: str, kind: FeatureKind, settings: FeatureSettings) -> str:
    # Level and trimming came later than the first caches: they enter the key only where they change something.
    changed = {field: getattr(settings, field) for field in ("level", "trim")
               if getattr(settings, field) != FeatureSettings.model_fields[field].default}
    source = kind.source()
    parts = [kind.version, name, {**kind.cache_settings(), **changed}, *([] if source is None else [source])]
    return f"{name}-{hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()}"


def stores(settings: FeatureSettings, variant: Variant | None = None) -> list[cache.Store]:
    """Return the place in the cache of each of the settings' kinds, of recordings or of their copies."""
    suffix = "" if variant is None else f"-{variant.key()}"
    return [cache.Store(_key(name, kind, settings) + suffix, kind.cached_shape())
            for name, kind in zip(settings.kinds, kinds_of(settings))]


def cached(digest: str, places: Sequence[cache.Store], settings: FeatureSettings) -> Array | None:
    """Return the cached features of a recording with this content, or None where a part of them is missing."""
    parts = []
    for place in places:
        part = place.get(digest)
        if part is None:
            return None
        parts.append(part)
    return join(parts, settings)
