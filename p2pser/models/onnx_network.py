"""The network of a model directory as ONNX, which answers where torch is not installed.

``network.onnx`` maps scaled features to outputs; all else that a prediction needs is in ``card.json`` and computed with
numpy, as with torch. The file is checked before it runs: it may name no other file, has only operators that p2pser's
networks have (``onnx_operators``), and its input and output are those that the card describes.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ModelError
from p2pser.base.wording import extra
from p2pser.models import onnx_operators
from p2pser.models.directory import NETWORK, WEIGHTS, Card

LARGEST = 1 << 31
"""The largest file of a network [bytes]: a message of protocol buffers is not larger."""

BATCH = 256
"""Number of clips in a call of ONNX Runtime."""


class OnnxNetwork:
    """A network that ONNX Runtime runs in the calling thread."""

    def __init__(self, session: Any, path: Path) -> None:
        self._session, self._path = session, path
        self._input = session.get_inputs()[0].name

    def outputs(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n, outputs) for scaled features (n, …).

        Raises ModelError where ONNX Runtime fails, or its outputs are not finite or not one for each clip.
        """
        if len(features) == 0:
            raise ValueError("there are no clips to predict")
        values = np.ascontiguousarray(features, dtype=np.float32)
        try:
            parts = [self._session.run(None, {self._input: values[start : start + BATCH]})[0]
                     for start in range(0, len(values), BATCH)]
        except Exception as error:  # ONNX Runtime's errors have no common class of their own
            raise ModelError(f"{self._path} fails: {_line(error)}; export the model again") from None
        answers: NDArray[np.float32] = np.concatenate(parts)
        if len(answers) != len(values) or not np.isfinite(answers).all():
            raise ModelError(f"{self._path} gives answers that are not those of a model; export the model again")
        return answers


def stands_in(path: Path) -> bool:
    """Whether the ONNX file of a model directory is used: where there is no other network, or torch is missing.

    Raises ModelError where torch is missing and there is no such file, or ``path`` is a single ONNX file.
    """
    if path.is_file() and path.suffix == ".onnx":
        raise ModelError(f"{path} is a file for other programs: write a model directory with p2pser export MODEL_DIR "
                         "--light NEW_DIR")
    has = (path / NETWORK).is_file()
    if importlib.util.find_spec("torch") is not None:
        return has and not (path / WEIGHTS).exists()
    if not has and (path / WEIGHTS).exists():
        raise ModelError(f"{path} has no {NETWORK}, and torch is not installed here: where p2pser is whole, write the "
                         f"model with p2pser export {quote(str(path))} --light NEW_DIR")
    return has


def runtime() -> Any:
    """Return the module of ONNX Runtime, which sends no telemetry where it was not imported before."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def load(path: Path, card: Card) -> OnnxNetwork:
    """Return the network of a model directory. Raises ModelError where it cannot be used or is not the card's.

    ``card``: of the same directory (``directory.read_card``).
    """
    from p2pser import models

    try:
        onnxruntime = runtime()
    except ImportError:
        raise ModelError(f"{path} is answered by ONNX Runtime, which is not installed: {extra('onnx')}") from None
    file = path / NETWORK
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise ModelError(f"cannot read the network {file}: {error.strerror}; copy the model again") from None
    if not content:
        raise ModelError(f"{file} has {size} bytes, which no network has; copy the model again")
    if b"location" in content:  # the name of the entry by which a tensor is read from another file
        raise ModelError(f"{file} refers to other files; use a model that p2pser export wrote")
    try:
        why = onnx_operators.refused(content)
    except ValueError as error:
        raise ModelError(f"cannot read the network {file}: {error}; copy the model again") from None
    if why:
        raise ModelError(f"{file} has {why}: it is not run, as nothing bounds its time and memory; use a model that "
                         "p2pser export wrote")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")  # ONNX Runtime's own format is not checked
    options.log_severity_level = 4  # fatal: p2pser reports errors itself
    options.intra_op_num_threads = 1  # more threads would spin between calls
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class of their own
        raise ModelError(f"cannot read the network {file}: {_line(error)}; copy the model again") from None
    expected = [card.shape, (models.outputs(card.task, len(card.labels)),)]
    given = [session.get_inputs(), session.get_outputs()]
    if [[tuple(each.shape[1:]) for each in side] for side in given] != [[shape] for shape in expected] \
            or any(each.type != "tensor(float)" for side in given for each in side):
        raise ModelError(f"{file} is not the network that the card describes; copy the model again")
    return OnnxNetwork(session, file)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
