"""The family ``xgb``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.models.family import Family, above

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import Config, ModelSettings

LARGEST = 1 << 25
"""The most numbers in an ensemble (peers x rounds x classes x numbers of a tree): 128 MiB."""

MOST_FEATURES = 1 << 16
"""The most features: messages give a feature's number in two bytes."""

DEEPEST = 8
"""The most levels of inner nodes of a tree."""


@FAMILIES.register("xgb")
@dataclass(frozen=True, kw_only=True)
class BoostedTrees(Family):
    """Boosted trees as a model: a table of tree sets, each one regression tree a class, in the parameters of a module.

    XGBoost grows the trees (``p2pser.training.boosting``). Here they are numbers in a row, like those of any other
    model, which is digested, checkpointed, stored and evaluated as networks are. Predictions need no XGBoost, and its
    parsers never read a message or a model file.
    """

    takes = "vector"
    defaults: ClassVar[Mapping[str, Any]] = {"gossip.algorithm": "trees"}
    boosts = True
    preload = ("xgboost",)
    learner = "p2pser.training.boosting:TreeLearner"

    depth: int = 3
    """levels of inner nodes of a tree"""

    eta: float = 0.3
    """share of a tree's leaves that is added to the margins, where one peer grows trees"""

    gain: float = 3.0
    """a tree of N peers is multiplied by eta min(1, gain / N); 1: the mean of the N trees has the weight of one peer's
    tree; above 1: more, since a mean has a smaller error and allows a larger step"""

    reg_lambda: float = 1.0
    """L2 penalty of a tree's leaves"""

    subsample: float = 0.8
    """share of a peer's clips on which it grows a round's trees"""

    columns: float = 0.1
    """share of the features that are tried at each node of a tree"""

    held: int = 0
    """tree sets that an ensemble has room for; the run sets it, peers times rounds"""

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= DEEPEST:
            raise ConfigError(f"model.parameters.depth = {self.depth} must be 1 to {DEEPEST}")
        above("xgb", eta=self.eta)
        if self.gain < 1:
            raise ConfigError(f"model.parameters.gain = {self.gain} must be 1 or more")
        for name in ("reg_lambda", "held"):
            if getattr(self, name) < 0:
                raise ConfigError(f"model.parameters.{name} = {getattr(self, name)} must be 0 or more")
        for name in ("subsample", "columns"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"model.parameters.{name} = {getattr(self, name)} must be above 0, and at most 1")

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks.trees import Growth, TreeEnsemble, numbers

        if shape[0] > MOST_FEATURES:
            raise ModelError(f"model 'xgb' takes up to {MOST_FEATURES} numbers a clip, not {shape[0]}: choose fewer "
                             "features")
        size = self.held * outputs * numbers(self.depth)
        if size > LARGEST:
            raise ModelError(f"an ensemble of {self.held} tree sets of depth {self.depth} takes {size} numbers, more "
                             f"than {LARGEST}: lower training.rounds or model.parameters.depth")
        growth = Growth(self.eta, self.gain, self.reg_lambda, self.subsample, self.columns)
        return TreeEnsemble(shape[0], outputs, self.held, self.depth, growth)

    def for_run(self, config: Config, peers: int) -> Config:
        """Return the settings with room for the tree sets that ``peers`` peers grow in all rounds.

        Raises ConfigError where trees cannot learn the run's task, or no tree would be grown.
        """
        if not config.training.rounds:
            raise ConfigError("model.name=xgb grows its trees in the rounds, and training.rounds is 0: set 1 or more")
        if config.training.task != "classes":
            raise ConfigError(f"model.name=xgb predicts classes only, and training.task is {config.training.task}: set "
                              "training.task=classes, or choose a network")
        sized = replace(self, held=config.training.rounds * peers)
        return config.with_parameters(asdict(sized))
