"""The settings of local work."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from p2pser.config.section import Section, shared


class TrainingSettings(Section):
    """The local work of each peer."""

    task: Literal["classes", "dimensions", "both"] = shared(
        "classes", "what is learned: classes (emotions), dimensions (arousal, valence and dominance), or both at once")
    loss: Literal["auto", "cross-entropy", "squared-hinge"] = shared(
        "auto", "loss of the classes; auto: the family's own, squared-hinge for svm, cross-entropy for the others")
    dimension_weight: float = shared(
        1.0, "weight of the dimensions' loss (1 - CCC, their mean) beside the classes' where both are learned", gt=0,
        le=1000)
    balance: Literal["none", "sampling", "weights"] = shared(
        "none", "how rare classes are balanced: not, by more draws, or by a larger weight in the loss; by the counts "
                "over all peers' clips, summed by gossip")
    own_classes: bool = shared(
        False, "a peer's loss leaves out the emotions of which it has no clip, so that it does not unlearn what other "
               "peers have learned of them")
    fairness: Literal["none", "speaker", "sex", "language"] = shared(
        "none", "groups whose clips have a larger weight if their loss is high: a group is the clips of one speaker, "
                "sex or language at a peer")
    fairness_strength: float = shared(
        1.0, "how steeply the weight of a group rises with its loss: from e^-strength at a loss of 0 to e^strength at "
             "the loss of a guess", gt=0, le=5)
    soft_labels: bool = shared(
        False, "learn the shares of listeners who chose each emotion, if the corpus has them (crema-d, emodb)")
    rounds: int = shared(40, "communication rounds", ge=0, le=10**9)
    local_steps: int = shared(5, "optimiser steps between two exchanges", ge=1, le=10**9)
    batch_size: int = shared(16, "clips per step", ge=1, le=10**6)
    optimizer: Literal["sgd", "adamw"] = shared("sgd", "local optimiser; some model families have another default")
    lr: float = shared(0.05, "learning rate; some families have another default for their own optimiser", gt=0, le=1000)
    momentum: float = shared(0.9, "momentum of sgd", ge=0, lt=1)
    weight_decay: float = shared(1e-3, "decoupled for adamw, L2 for sgd", ge=0, le=1000)
    clip_norm: float = shared(1.0,
        "largest norm of a gradient; larger gradients are scaled down to it; 0: no limit", ge=0, le=1000)
    proximal: float = shared(0.0,
        "FedProx's mu: pulls each local step towards the parameters at the start of the round; 0: off", ge=0, le=1000)
    schedule: Literal["constant", "cosine"] = shared("cosine", "learning rate over the rounds")
    label_smoothing: float = shared(0.1, "share of the target that is spread over all classes", ge=0, lt=1)
    held_out: float = shared(
        0.0, "share of the speakers (at least one) whose clips are held out of training: on them the peers calibrate "
             "the model's probabilities and its sets of emotions after the final consensus; if each peer has one "
             "speaker, whole peers hold out all clips; 0: none, and no calibration", ge=0, le=0.5)
    fine_tune: int = Field(
        0, ge=0, description="steps on the peer's own clips after the final consensus, for a personal model in "
                             "addition to the common one")
    fine_tune_lr: float = Field(0.01, gt=0, le=1000, description="learning rate of fine_tune")
    at_once: int = Field(
        0, ge=0, le=10**6, description="number of simulated peers that take their local steps at the same time, if "
                                       "their network can; 1: one after another; 0: the fastest, by a short "
                                       "measurement")
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="device on which simulated peers take their local steps, if their network can take those of "
                           "several peers at the same time; exchanges and evaluations stay on the CPU")
    threads: int = Field(1, ge=1, le=4096, description="torch threads of one peer process")
