"""The packages of a run's plug-ins."""

from __future__ import annotations

from p2pser.base import registries
from p2pser.config import Config


def plugins(config: Config) -> dict[str, str]:
    """Return the package and version of each plug-in that this run uses, for HELLO."""
    compressor = config.gossip.parameters.get("compressor")
    used = [(registries.ALGORITHMS, config.gossip.algorithm), (registries.FAMILIES, config.model.name),
            *((registries.FEATURES, kind) for kind in config.features.kinds),
            *([(registries.COMPRESSORS, compressor)] if compressor else [])]
    origins = {f"plugin.{registry.what}.{name}": registry.origin(str(name)) for registry, name in used}
    return {what: str(origin) for what, origin in origins.items() if not origin.builtin}
