"""The base class of families of models: of the built-in ones and of those of other packages.

Settings are checked against families whenever a run file is read, so a built-in family's file imports torch only where
it builds its network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from p2pser.base.errors import ConfigError
from p2pser.base.parameters import parameter_types, typed

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import Config, ModelSettings

F = TypeVar("F", bound="Family")

OVER_TIME: Mapping[str, Any] = {"features.kind": "mfcc+chroma", "features.n_mfcc": 34, "features.deltas": 0,
                                "training.optimizer": "adamw", "training.lr": 0.004}
"""Defaults of networks over time: few bands, and an optimiser whose steps do not scale with the gradient."""


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """A family of models: a frozen dataclass whose fields are the hyper-parameters of this family alone.

    They are of type int, float, str or bool (or None), and are set in ``model.parameters``. A family checks their
    values in ``__post_init__`` and raises ConfigError. ``p2pser models`` lists the first sentence of its docstring.

    Example
    -------
    >>> from p2pser.base.registries import FAMILIES
    >>> @FAMILIES.register("doubly-linear")
    ... @dataclass(frozen=True, kw_only=True)
    ... class DoublyLinear(Family):
    ...     takes = "vector"
    ...     rank: int = 4
    ...     def build(self, model, shape, outputs):
    ...         from torch import nn
    ...         return nn.Sequential(nn.Linear(*shape, self.rank), nn.Linear(self.rank, outputs))
    >>> DoublyLinear.of({"rank": 2}).rank
    2
    """

    takes: ClassVar[Literal["vector", "matrix", "states"]]
    """The features of a clip: one vector (functionals), a matrix, bands by frames, or a speech encoder's states."""

    uses: ClassVar[tuple[str, ...]] = ()
    """The general settings of ``model`` (hidden, dropout, …) that count for this family."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of other sections, ``model.hidden`` and ``model.stride``, whose default this family changes:
    {"training.lr": 0.1, …}."""

    narrows: ClassVar[bool] = False
    """Whether ``model.width`` may be below 1 (see ``p2pser.models.widths``)."""

    boosts: ClassVar[bool] = False
    """Whether a round adds to the model (trees) where other families change their parameters by gradient steps."""

    weighs_clips: ClassVar[bool] = False
    """Whether local work needs the number of all peers' clips (``Objective.clips``), which is else not computed."""

    loss: ClassVar[str] = "cross-entropy"
    """The loss of ``training.loss=auto``: cross-entropy or squared-hinge."""

    learner: ClassVar[str] = "p2pser.training.learner:Learner"
    """Dotted name of the class of this family's local work, a subclass of ``p2pser.training.learner.Learner``.

    ``p2pser.training.local_work`` resolves the name. A class would make models import the training code (and XGBoost),
    which predictions do not need.
    """

    preload: ClassVar[tuple[str, ...]] = ()
    """Modules that training needs, which are loaded once for all local peers of a machine."""

    @classmethod
    def of(cls: type[F], parameters: Mapping[str, Any]) -> F:
        """Return this family with these hyper-parameters, the others by default.

        Raises ConfigError for an unknown name (with the nearest known one), a wrong type or a wrong value.
        """
        return cls(**typed(parameters, parameter_types(cls), "model.parameters", cls.__name__))

    @abstractmethod
    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return the network; ``p2pser.models.build`` then draws its parameters.

        Parameters
        ----------
        model : the settings of the run's model.
        shape : of one clip's features: (D,), (bands, frames) where ``takes`` is ``matrix``, or (D, 1, 2 + more) where
            it is ``states``.
        outputs : number of the network's outputs for a clip.

        Returns
        -------
        A module that maps (n, *shape) float32 to (n, outputs). It keeps no state outside its parameters, all float32.
        By attributes its layers ask for another initialisation than the default (``p2pser.models.initialise``).

        Raises
        ------
        ModelError : where the settings or the shape do not fit.
        """

    def for_run(self, config: Config, peers: int) -> Config:
        """Return the settings of a run of ``peers`` peers; a family overrides this where its size depends on the run.

        Raises ConfigError where the family cannot do the run's task.
        """
        return config


def above(family: str, **values: float | None) -> None:
    """Raise ConfigError for a value that is not above 0; None passes."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"model.parameters.{name} = {value} must be above 0 ({family})")
