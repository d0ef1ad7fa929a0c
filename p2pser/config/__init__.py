"""The settings of a run, validated. A run file (``run.yaml``) holds them; ``--set section.field=value`` overrides.

Fields marked shared must be equal at all peers: HELLO compares them, and an error names the field and both values.
Paths, addresses, limits and settings of local speed may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from p2pser.base.documents import OUTSIDE_BYTES, kind_of_file, read_text, read_yaml
from p2pser.base.errors import ConfigError, in_one_line, nearest
from p2pser.base.registries import FAMILIES
from p2pser.config.augment import AugmentSettings
from p2pser.config.constraints import takes_mapping
from p2pser.config.corpus import CorpusSettings
from p2pser.config.features import FeatureSettings
from p2pser.config.gossip import GossipSettings
from p2pser.config.model import MOVED, ModelSettings, family_defaults, moved
from p2pser.config.network import NetworkSettings
from p2pser.config.peer import PeerSettings
from p2pser.config.privacy import PrivacySettings
from p2pser.config.problems import settings_of, validated
from p2pser.config.section import SHARED, Section, shared, with_defaults
from p2pser.config.training import TrainingSettings

__all__ = ["AugmentSettings", "Config", "CorpusSettings", "FeatureSettings", "GossipSettings", "ModelSettings",
           "NetworkSettings", "PeerSettings", "PrivacySettings", "TrainingSettings", "configured", "describe", "load",
           "parse"]


class Config(Section):
    """The settings of a run."""

    name: str = Field("run", description="name of the run: its folder, and part of its identity on the network")
    seed: int = shared(0, "seed of everything random", ge=0, lt=2**63)
    corpus: CorpusSettings = CorpusSettings()
    model: ModelSettings = Field(default_factory=ModelSettings)  # before the sections whose defaults follow it
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    gossip: GossipSettings = GossipSettings()
    network: NetworkSettings = NetworkSettings()
    peer: PeerSettings = PeerSettings()
    privacy: PrivacySettings = PrivacySettings()

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError("must be 1 to 64 letters, digits, dots, dashes and underscores that begin with a letter "
                             "or digit")
        return name

    @model_validator(mode="before")
    @classmethod
    def _of_states(cls, given: Any) -> Any:
        """Choose the feature kind of a family that takes an encoder's states, if none is given."""
        model, features = (given.get("model"), given.get("features")) if isinstance(given, Mapping) else (None, None)
        name = model.get("name") if isinstance(model, Mapping) else None
        if isinstance(name, str) and name in FAMILIES and FAMILIES[name].takes == "states" and \
                isinstance(features, Mapping):
            return {**given, "features": {"kind": FAMILIES[name].defaults["features.kind"], **features}}
        return given

    @field_validator("features", "augment", "training", "gossip", mode="after")
    @classmethod
    def _by_family(cls, section: Section, info: ValidationInfo) -> Section:
        """Apply the family's defaults to unset fields. They stay unset, so that another family's defaults may replace
        them.
        """
        if "model" not in info.data:  # an invalid model has its own message
            return section
        family = info.data["model"].name
        return with_defaults(section, family_defaults(family, str(info.field_name), section))

    @model_validator(mode="after")
    def _weighs_groups(self) -> Config:
        if self.training.fairness != "none" and self.augment.mixup:
            raise ValueError("training.fairness weighs each clip by its group, and augment.mixup mixes clips of "
                             "several: leave one of them out")
        if self.training.fairness != "none" and FAMILIES[self.model.name].boosts:
            raise ValueError(f"training.fairness weighs gradient steps, and model.name={self.model.name} takes none: "
                             "set training.fairness=none")
        return self

    def shared(self) -> dict[str, Any]:
        """Return the settings that must be equal at all peers, flat: ``{"training.lr": 0.05, …}``."""
        return dict(sorted(_shared_fields(self, "")))

    def with_parameters(self, parameters: Mapping[str, Any]) -> Config:
        """Return a copy whose model has these hyper-parameters of its family (``model.parameters``)."""
        model = ModelSettings.model_validate({**self.model.model_dump(exclude_unset=True), "parameters": parameters})
        return self.model_copy(update={"model": model})

    def with_settings(self, settings: Iterable[str]) -> Config:
        """Return a copy with each ``section.field=value`` applied; values are parsed as YAML.

        Raises ConfigError for an unknown name (with the nearest known one) or an invalid value.
        """
        tree = self.model_dump(exclude_unset=True)
        for setting in settings:
            path, equals, text = setting.partition("=")
            if not equals:
                raise ConfigError(f"--set {setting!r}: write it as section.field=value")
            home = text.strip() == "~"  # on a command line not YAML's null
            value = "~" if home else read_yaml(text, f"the value of --set {setting}", ConfigError)
            _assign(tree, path.strip(), value)
        return parse(tree, "settings")


def _shared_fields(section: BaseModel, prefix: str) -> Iterable[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _shared_fields(value, f"{prefix}{name}.")
        elif field.json_schema_extra == SHARED:
            yield prefix + name, list(value) if isinstance(value, tuple) else value


def _assign(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set ``section.field``, or an entry of a mapping: ``gossip.parameters.beta``."""
    known = dict(settings_of(Config))
    *sections, name = path.split(".")
    if sections == ["model"] and name in MOVED:
        raise ConfigError(moved(name))
    mapping = known.get(".".join(sections))
    if path not in known and (mapping is None or not takes_mapping(mapping)):
        raise ConfigError(f"there is no setting {path!r}{nearest(path, known)}")
    for section in sections:
        if not isinstance(tree.get(section), dict):
            tree[section] = {}
        tree = tree[section]
    tree[name] = value


def parse(tree: Mapping[str, Any], where: str) -> Config:
    """Return the validated settings of a mapping; ``where`` names its source in errors (ConfigError)."""
    try:
        return validated(Config, tree)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def configured(settings: Mapping[str, Any] | None) -> Config:
    """Return the default settings with some replaced: ``{"training.rounds": 10, "gossip.algorithm": "k-gt"}``.

    Raises ConfigError for an unknown name (with the nearest known one) or an invalid value.
    """
    if not isinstance(settings, Mapping | None) or not all(isinstance(path, str) for path in settings or ()):
        raise ConfigError(f"settings are {in_one_line(repr(settings), 80)}: give a mapping from names of settings to "
                          'values, {"training.rounds": 10}')
    tree: dict[str, Any] = {}
    for path, value in (settings or {}).items():
        _assign(tree, path, value.tolist() if hasattr(value, "tolist") else value)  # arrays and numbers of numpy
    return parse(tree, "settings")


def describe() -> list[dict[str, Any]]:
    """Return every setting and registered hyper-parameter with default, unit and meaning (``config.reference``)."""
    from p2pser.config.reference import reference  # here, since it imports all algorithms

    return reference(Config)


def load(path: Path | None, settings: Iterable[str] = ()) -> Config:
    """Return the settings of a run file (default: the built-in ones) with ``--set`` overrides applied.

    Raises ConfigError where the file is missing, is not YAML or has an invalid setting.
    """
    config = Config()
    if path is not None:
        text = read_text(path, "the run file", ConfigError, OUTSIDE_BYTES)
        tree = read_yaml(text, f"the run file {path}", ConfigError)
        if not isinstance(tree, dict | None):
            raise ConfigError(f"the run file {path} must hold a mapping of sections, not a {type(tree).__name__}")
        if (kind := kind_of_file(tree)).startswith(("an invitation", "a reply", "a topology", "a key")):
            raise ConfigError(f"{path} is {kind}: give a run file (--run), as p2pser accept writes it")
        config = parse(tree or {}, str(path))
    return config.with_settings(settings)
