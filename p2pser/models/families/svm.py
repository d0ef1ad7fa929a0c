"""The family ``svm``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from p2pser.base.errors import ConfigError
from p2pser.base.registries import FAMILIES
from p2pser.models.family import Family, above

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import ModelSettings

KERNELS = ("linear", "rbf")


@FAMILIES.register("svm")
@dataclass(frozen=True, kw_only=True)
class SupportVectorMachines(Family):
    """Support vector machines in the primal, one for each class against the rest, so that they mix like any other row.

    f(x) = R (w . phi(x) + b) for each class, where phi(x) . phi(y) is the kernel:

    * linear: gamma x . y. So C means what it means in scikit-learn's LinearSVC on features times sqrt(gamma).
    * rbf: exp(-gamma |x - y|^2), by orthogonal random features (F. X. Yu, A. T. Suresh, K. Choromanski,
      D. Holtmann-Rice, S. Kumar, "Orthogonal Random Features", NeurIPS 2016): cosine and sine of W x over sqrt(m). The
      m rows of W are blocks of random orthogonal directions with the lengths of rows of Gaussian numbers. Independent
      directions (Rahimi and Recht 2007) need several times as many. W is drawn from the run's seed, is equal at all
      peers, and is neither learned nor sent.

    Training minimises C sum_clips (squared hinge) + |w|^2 / 2 over all peers' clips, with the bias counted in w, as in
    LinearSVC: per clip, an L2 penalty of 1 / (C n), which replaces ``training.weight_decay``. Features are normalised,
    so gamma = 1 / D is scikit-learn's ``scale``. R changes the stored numbers only, w / R in place of w, so that the
    learning rates of networks suit them.
    """

    takes = "vector"
    defaults: ClassVar[Mapping[str, Any]] = {"training.lr": 0.1, "training.clip_norm": 10.0}
    weighs_clips = True
    loss = "squared-hinge"
    learner = "p2pser.training.machines:MachineLearner"

    kernel: str = "rbf"
    """linear, or rbf by orthogonal random features"""

    c: float = 1.0
    """C, the weight of the clips' errors against the margin; it replaces training.weight_decay"""

    gamma: float | None = None
    """linear: gamma x.y; rbf: exp(-gamma |x - y|^2); default: 1 / number of features, which are normalised"""

    random_features: int = 8192
    """number of cosines and sines together that approximate the rbf kernel, even"""

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ConfigError(f"model.parameters.kernel = {self.kernel!r} must be {' or '.join(KERNELS)}")
        above("svm", c=self.c, gamma=self.gamma)
        if self.random_features < 2 or self.random_features % 2:
            raise ConfigError(f"model.parameters.random_features = {self.random_features} must be even and at least 2")

    def build(self, model: ModelSettings, shape: tuple[int, ...], outputs: int) -> nn.Module:
        from p2pser.models.networks.svm import SVM

        return SVM(shape[0], outputs, self.kernel, self.c, self.gamma or 1.0 / shape[0], self.random_features)
