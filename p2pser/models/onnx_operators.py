"""The operators of a network in ONNX, read from the file's bytes.

A file that loops, or makes large tensors of small inputs, must be refused before it runs, and where only ONNX Runtime
is installed, no package lists its operators.

The file is a message of protocol buffers (onnx.proto): a model has a graph (field 7) of nodes (1), each with an
operator (4), of a domain (7), and attributes (5), which may hold graphs (6, 11); functions (25) are graphs too.
"""

from __future__ import annotations

from collections.abc import Iterator

MOST = 5_000
"""The largest number of nodes of a network; those of p2pser's families have about two hundred."""

_NAMES = (
    # those of p2pser's families
    "Abs Add And AveragePool Cast Clip Concat Constant ConstantOfShape Conv Cos CumSum Div Equal Expand Flatten GRU "
    "Gather GatherElements GatherND Gemm Greater Identity InstanceNormalization IsInf IsNaN LSTM Less MatMul MaxPool "
    "Mul NonZero Not Or Pow ReduceMax ReduceMean ReduceSum Relu Reshape Shape Sin Slice Softmax Split Sqrt Squeeze Sub "
    "Transpose Unsqueeze Where "
    # and those that families of other packages may have: no output is larger than the inputs
    "BatchNormalization Elu Erf Exp Gelu GlobalAveragePool GlobalMaxPool GreaterOrEqual HardSigmoid HardSwish "
    "LayerNormalization LeakyRelu LessOrEqual Log LogSoftmax Max Min Neg PRelu Reciprocal ReduceMin Selu Sigmoid Sign "
    "Softplus Tanh")

ALLOWED = frozenset(_NAMES.split())


def refused(content: bytes) -> str:
    """Return the reason for which a network in ONNX is refused; "" where there is none.

    Raises ValueError where the bytes are not a message of protocol buffers.
    """
    for nodes, name in enumerate(_operators(memoryview(content)), 1):
        if name not in ALLOWED:
            return f"the operator {name[:60]!r}, which no network of p2pser has"
        if nodes > MOST:
            return f"more than {MOST} operators"
    return ""


def _operators(model: memoryview) -> Iterator[str]:
    """Yield the operators of a model: those of other domains as DOMAIN.OPERATOR, a graph in a node as ``subgraph``."""
    for number, value in _fields(model):
        if number == 25:
            yield "function"
        if number != 7:
            continue
        for part, node in _fields(value):
            if part == 1:
                yield from _node(node)


def _node(node: memoryview) -> Iterator[str]:
    names, domains = [], []
    for number, value in _fields(node):
        if number == 4:
            names.append(bytes(value).decode("utf-8", "replace"))
        elif number == 7:
            domains.append(bytes(value).decode("utf-8", "replace"))
        elif number == 5 and any(part in (6, 11) for part, _ in _fields(value)):
            yield "subgraph"
    prefix = next((f"{domain}." for domain in domains if domain not in ("", "ai.onnx")), "")
    for name in names or [""]:
        yield prefix + name


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of a message's fields that have a length; other fields are skipped."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = _varint(message, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            length, place = _varint(message, place)
            if place + length > len(message):
                raise ValueError("a field is longer than its message")
            yield key >> 3, message[place:place + length]
            place += length
        else:
            raise ValueError(f"a field of the wire type {kind}")
    if place > len(message):
        raise ValueError("the last field is cut off")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a number and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number has no end")
