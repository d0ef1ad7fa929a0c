"""The settings of models, and those of other sections whose default depends on the family of models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from p2pser.config.section import Section, shared


class ModelSettings(Section):
    """The network that every peer trains."""

    name: str = shared("mlp", "the family (p2pser models lists them)")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = shared((128,),
        "widths of the hidden layers: units, channels of the blocks of a convolutional network, both for crnn (the "
        "last is the recurrent layer's); the default is the family's own")
    dropout: float = shared(0.3, "probability that a hidden unit is dropped in training", ge=0, lt=1)
    kernel_size: int = shared(5, "steps that a convolution over time spans (cnn1d, cnn1d-shallow)", ge=1, le=99)
    stride: int = shared(3, "frames whose mean is one step of a network over time (not cnn2d)", ge=1, le=100)
    bidirectional: bool = shared(True, "recurrent layers read a clip in both directions")
    width: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="share of the hidden units that a peer has, in (0, 1]: its network is a part "
                "of the whole one. One number is this peer's (in simulate, compare and demo everybody's), several are "
                "those of peers 0, 1, ...: 0.25*4,0.5*2,1*2")
    rescale: bool = shared(False, "multiply the hidden activations of a network of width w by 1 / w (HeteroFL); wide "
                                   "networks that learn together with narrow ones were better without")

    kernel: Literal["linear", "rbf"] = shared("rbf", "svm: linear, or rbf by orthogonal random features")
    svm_c: float = shared(1.0, "svm: C, the weight of the clips' errors against the margin; it takes the place of "
                                "training.weight_decay", gt=0)
    gamma: float | None = shared(None, "svm: linear: gamma x.y; rbf: exp(-gamma |x - y|^2); default: 1 / number of "
                                        "features, which are normalised", gt=0)
    random_features: int = shared(8192, "svm: cosines and sines together that stand for the rbf kernel", ge=2,
                                   multiple_of=2)

    trees_depth: int = shared(3, "xgb: levels of inner nodes of a tree", ge=1, le=8)
    trees_eta: float = shared(0.3, "xgb: share of what a tree found that counts, where one peer grows trees", gt=0)
    trees_gain: float = shared(
        3.0, "xgb: a tree of N peers counts eta min(1, gain / N); 1: their mean counts as one peer's would, and more, "
             "since a mean errs less and bears a larger step", ge=1)
    trees_lambda: float = shared(1.0, "xgb: L2 penalty of a tree's leaves", ge=0)
    trees_subsample: float = shared(0.8, "xgb: share of its clips that a peer grows a round's trees on", gt=0, le=1)
    trees_columns: float = shared(0.1, "xgb: share of the features that are tried at each node of a tree", gt=0, le=1)
    trees_held: int = shared(
        0, "xgb: tree sets that an ensemble has room for; the run sets it, peers times rounds", ge=0)

    @field_validator("width", mode="before")
    @classmethod
    def _widths(cls, widths: Any) -> Any:
        """Read a number, and ``0.25*4,0.5*2,1*2``: four peers of a quarter, two of a half, two whole ones."""
        if isinstance(widths, (int, float)):
            return (widths,)
        if not isinstance(widths, str):
            return widths
        parts = [part.partition("*") for part in widths.split(",")]
        if not all(times.strip().isdecimal() for _, star, times in parts if star):
            raise ValueError("write widths as WIDTH*PEERS,..., such as 0.25*4,0.5*2,1*2")
        return tuple(width for width, _, times in parts for _ in range(int(times or 1)))

    @model_validator(mode="after")
    def _by_family(self) -> ModelSettings:
        """Give what was not set as the family needs it."""
        self.__dict__.update(family_defaults(self.name, "model", self))
        return self


OVER_TIME: dict[str, Any] = {"features.kind": "mfcc+chroma", "features.n_mfcc": 34, "features.deltas": 0,
                             "training.optimizer": "adamw", "training.lr": 0.004}
"""What networks over time learn well from: few bands, and steps of a size that does not depend on their gradients'."""

BY_MODEL: dict[str, dict[str, Any]] = {
    "cnn1d-shallow": {**OVER_TIME, "model.hidden": (128,)},
    "cnn1d": {**OVER_TIME, "model.hidden": (64, 64, 96)},
    "cnn2d": {"features.kind": "logmel", "model.hidden": (16, 32, 64, 128)},
    "crnn": {**OVER_TIME, "features.kind": "logmel", "model.hidden": (16, 32, 48)},
    "gru": {**OVER_TIME, "model.hidden": (64,), "training.lr": 0.008},
    "lstm": {**OVER_TIME, "model.hidden": (64,), "training.lr": 0.008},
    "svm": {"training.lr": 0.1, "training.clip_norm": 10.0},
    "xgb": {"gossip.algorithm": "trees"},
}
"""Settings whose default depends on the family of models; what is set counts for every family."""


def family_defaults(family: str, section: str, given: Section) -> dict[str, Any]:
    """The family's defaults of one section's fields that were not set; its learning rate is for its optimiser alone."""
    fields = {path.partition(".")[2]: value for path, value in BY_MODEL.get(family, {}).items()
              if path.startswith(section + ".")}
    found = {field: value for field, value in fields.items() if field not in given.model_fields_set}
    if "optimizer" in fields.keys() - found.keys() and vars(given)["optimizer"] != fields["optimizer"]:
        found.pop("lr", None)
    return found
