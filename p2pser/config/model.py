"""The settings of models, and how the defaults of other sections follow the model's family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.parameters import parameter_types, typed
from p2pser.base.registries import FAMILIES
from p2pser.base.wording import listed
from p2pser.config.section import Section, shared

MOVED = {
    "kernel": ("svm", "kernel"), "svm_c": ("svm", "c"), "gamma": ("svm", "gamma"),
    "random_features": ("svm", "random_features"),
    "trees_depth": ("xgb", "depth"), "trees_eta": ("xgb", "eta"), "trees_gain": ("xgb", "gain"),
    "trees_lambda": ("xgb", "reg_lambda"), "trees_subsample": ("xgb", "subsample"),
    "trees_columns": ("xgb", "columns"), "trees_held": ("xgb", "held"),
}
"""Old name of a setting of ``model`` -> its family, and its name in ``model.parameters``."""

MOST_PEERS = 100_000
"""Largest number of peers in a list of widths."""

MOST_LAYERS = 64
"""Largest number of hidden layers: a card of a hundred thousand was built for half a minute before it was refused."""

HIDDEN, STRIDE = (128,), 3
"""Widths of the hidden layers, and frames of a step, if the family has no other defaults."""


def _hidden(others: dict[str, Any]) -> tuple[int, ...]:
    """Return the default widths of the hidden layers of the family."""
    widths: tuple[int, ...] = FAMILIES[others.get("name", "mlp")].defaults.get("model.hidden", HIDDEN)
    return widths


def _stride(others: dict[str, Any]) -> int:
    """Return the default stride of the family."""
    stride: int = FAMILIES[others.get("name", "mlp")].defaults.get("model.stride", STRIDE)
    return stride


class ModelSettings(Section):
    """The network that every peer trains."""

    name: str = shared("mlp", "the family (p2pser models lists them)")
    parameters: dict[str, float | int | str | bool | None] = shared(
        {}, "the family's own hyper-parameters, by name (p2pser models NAME lists them); unset ones have their "
            "defaults")
    hidden: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] = shared(
        _hidden, "widths of the hidden layers: units, channels of the blocks of a convolutional network, or both for "
                 "crnn (the last width is the recurrent layer's); the default depends on the family",
        max_length=MOST_LAYERS)
    dropout: float = shared(0.3, "probability that a hidden unit is dropped in training", ge=0, lt=1)
    kernel_size: int = shared(5, "steps that a convolution over time spans (cnn1d, cnn1d-shallow)", ge=1, le=99)
    stride: int = shared(_stride, "frames that are averaged to one step of a network over time; the default depends on "
                                  "the family", ge=1, le=100)
    bidirectional: bool = shared(True, "recurrent layers read a clip in both directions")
    width: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="share of the hidden units that a peer has, in (0, 1]: its network is a part "
                "of the whole one. One number is this peer's width (in simulate, compare and demo that of all peers), "
                "several are those of peers 0, 1, ...: 0.25*4,0.5*2,1*2")
    rescale: bool = shared(False, "multiply the hidden activations of a network of width w by 1 / w (HeteroFL); in "
                                   "our experiments wide networks beside narrow ones were better without")

    @field_validator("width", mode="before")
    @classmethod
    def _widths(cls, widths: Any) -> Any:
        """Accept a number, or ``0.25*4,0.5*2,1*2``: four peers of width 0.25, two of 0.5, two of 1."""
        if isinstance(widths, (int, float)):
            return (widths,)
        if not isinstance(widths, (str, list, tuple)):
            return widths
        parts = [str(part).partition("*") for part in (listed(widths) if isinstance(widths, str) else widths)]
        if not all(times.strip().isdecimal() for _, star, times in parts if star):
            raise ValueError("write widths as WIDTH*PEERS,..., such as 0.25*4,0.5*2,1*2")
        if sum(int(times or 1) for _, _, times in parts) > MOST_PEERS:
            raise ValueError(f"must be widths of {MOST_PEERS} peers or fewer")
        return tuple(width for width, _, times in parts for _ in range(int(times or 1)))

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, given: Any) -> Any:
        """Refuse the names that the settings of one family had before they moved to ``parameters``."""
        if isinstance(given, Mapping):
            for name in given:
                if name in MOVED:
                    raise ValueError(moved(name))
        return given

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            FAMILIES[name]
        except ModelError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("parameters", mode="after")
    @classmethod
    def _of_the_family(cls, parameters: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Check the family's hyper-parameters, and complete them with its defaults."""
        if "name" not in info.data:  # an invalid name has its own message
            return parameters
        name = info.data["name"]
        try:
            family = FAMILIES[name]
            return asdict(family(**typed(parameters, parameter_types(family), "model.parameters", name)))
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("model.parameters: ")) from None


def family_defaults(family: str, section: str, given: Section) -> dict[str, Any]:
    """Return the family's defaults of a section's fields that are not set.

    A family's learning rate is for its own optimiser: with another optimiser it is not used.
    """
    fields = {path.partition(".")[2]: value for path, value in FAMILIES[family].defaults.items()
              if path.startswith(section + ".")}
    defaults = {field: value for field, value in fields.items() if field not in given.model_fields_set}
    if "optimizer" in fields.keys() - defaults.keys() and vars(given)["optimizer"] != fields["optimizer"]:
        defaults.pop("lr", None)
    return defaults


def moved(name: str) -> str:
    """Return the sentence that refuses an old name of ``MOVED``."""
    family, parameter = MOVED[name]
    return (f"model.{name} is now model.parameters.{parameter}, a hyper-parameter of {family}: write "
            f"--set model.parameters.{parameter}=..., or in a run file model: {{parameters: {{{parameter}: ...}}}}")


def without_moved(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a stored model, with the names of ``MOVED`` in ``parameters``.

    Cards written before the names moved hold those of all families: only those of the model's own family are kept.
    """
    stays = {name: value for name, value in document.items() if name not in MOVED}
    own = {MOVED[name][1]: value for name, value in document.items()
           if name in MOVED and MOVED[name][0] == document.get("name")}
    return {**stays, "parameters": {**own, **stays.get("parameters", {})}}
