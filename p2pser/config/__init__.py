"""The settings of a run, validated. A run file (``run.yaml``) holds them; ``--set section.field=value`` overrides.

Fields marked shared must be equal on all peers: HELLO compares them and names the field and both values where
they differ. Paths, addresses, limits and local means of speed are each peer's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from p2pser.base.errors import ConfigError, nearest
from p2pser.config.augment import AugmentSettings
from p2pser.config.corpus import CorpusSettings
from p2pser.config.features import FeatureSettings
from p2pser.config.gossip import GossipSettings
from p2pser.config.model import BY_MODEL, ModelSettings, family_defaults
from p2pser.config.network import NetworkSettings
from p2pser.config.peer import PeerSettings
from p2pser.config.section import SHARED, Section, shared
from p2pser.config.training import TrainingSettings

__all__ = ["BY_MODEL", "AugmentSettings", "Config", "CorpusSettings", "FeatureSettings", "GossipSettings",
           "ModelSettings", "NetworkSettings", "PeerSettings", "TrainingSettings", "load", "parse"]


class Config(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = Field(
        "run", description="name of the run: its folder, and part of its identity on the network")
    seed: int = shared(0, "seed of everything random", ge=0, lt=2**63)
    corpus: CorpusSettings = CorpusSettings()
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    gossip: GossipSettings = GossipSettings()
    network: NetworkSettings = NetworkSettings()
    peer: PeerSettings = PeerSettings()

    @model_validator(mode="after")
    def _by_family(self) -> Config:
        """Give what was not set as the model's family needs it; it stays unset, so that another family may differ."""
        for section in ("features", "training", "gossip"):
            given: Section = getattr(self, section)
            if own := family_defaults(self.model.name, section, given):
                resolved = given.model_copy()
                resolved.__dict__.update(own)
                self.__dict__[section] = resolved
        return self

    def shared(self) -> dict[str, Any]:
        """Return the settings that all peers must have equal, flat: ``{"training.lr": 0.05, …}``."""
        return dict(sorted(_shared_fields(self, "")))

    def with_settings(self, settings: Iterable[str]) -> Config:
        """Return a copy with each ``section.field=value`` applied; values are read as YAML.

        Raises ConfigError for a name that does not exist (naming the nearest) or a value that does not fit.
        """
        tree = self.model_dump(exclude_unset=True)
        for setting in settings:
            path, equals, text = setting.partition("=")
            if not equals:
                raise ConfigError(f"--set {setting!r}: write it as section.field=value")
            _assign(tree, path.strip(), yaml.safe_load(text), self)
        return parse(tree, "--set")


def _shared_fields(section: BaseModel, prefix: str) -> Iterable[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _shared_fields(value, f"{prefix}{name}.")
        elif field.json_schema_extra == SHARED:
            yield prefix + name, list(value) if isinstance(value, tuple) else value


def _names(section: BaseModel, prefix: str = "") -> Iterable[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _assign(tree: dict[str, Any], path: str, value: Any, config: Config) -> None:
    known = list(_names(config))
    *sections, name = path.split(".")
    if path not in known and ".".join(sections) != "gossip.parameters":
        raise ConfigError(f"there is no setting {path!r}{nearest(path, known)}")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[name] = value


def parse(tree: Mapping[str, Any], where: str) -> Config:
    """Return the validated settings of a mapping; ``where`` names its source in errors (ConfigError)."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: there is no setting {path!r}{nearest(path, _names(Config()))}") from None
        why = first["msg"].removeprefix("Value error, ")  # pydantic's words before our own sentences
        raise ConfigError(f"{where}: {path} = {first['input']!r}: {why}") from None


def load(path: Path | None, settings: Iterable[str] = ()) -> Config:
    """Return the settings of a run file (default: the embedded ones) with ``--set`` overrides applied.

    Raises ConfigError where the file is missing, is not YAML or holds a wrong setting.
    """
    config = Config()
    if path is not None:
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"cannot read the run file {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} must hold a mapping of sections, not a {type(tree).__name__}")
        config = parse(tree, str(path))
    return config.with_settings(settings)
