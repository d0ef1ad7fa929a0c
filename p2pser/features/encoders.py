"""Encoders from Hugging Face, of speech and text: where their files are, what they are; the layers of those of speech.

wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), WavLM (Chen et al. 2022), Whisper's encoder (Radford et
al. 2023), or any model of transformers that takes sound and returns hidden states.

torch and transformers (the extra ``ssl``) are imported when the first clip is computed; the shape and the identity of
an encoder are read from its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.base.atomic import put
from p2pser.base.documents import read_text
from p2pser.base.errors import ConfigError, P2PSERError, in_one_line
from p2pser.base.paths import cache_folder, expanded
from p2pser.features import cache, levels
from p2pser.features.kind import Array

LONGEST = 30.0
"""Longest input [s]: of a longer clip the middle is taken. Whisper takes no more; the memory of the others grows with
its square."""


@dataclass(frozen=True)
class Form:
    """What the folder of an encoder holds: ``of`` speech or text, named by a ``setting``, with the files ``needed``
    beside the weights; ``beside``: what reads its input.
    """

    of: str
    setting: str
    needed: tuple[str, ...]
    beside: str


SPEECH = Form("speech", "features.encoder", ("config.json", "preprocessor_config.json"), "feature extractor")
TEXT = Form("text", "features.text_encoder", ("config.json", "tokenizer.json", "tokenizer_config.json"), "tokenizer")

_WEIGHTS = ("*.safetensors", "*.bin")
IDENTIFIED = re.compile(r"(?P<name>[^@]*)@(?P<identity>[0-9a-f]{16})")
"""An encoder that any machine can look for, as ``portable`` returns it."""
INSTALL = ("encoders of speech and text (features.kind=ssl, encoder-states, sentences) need the extra ssl: pip install "
           "'p2pser[ssl]'")
AGAIN = "copy the encoder again (git lfs pull, where its folder comes from git)"
MISSING = 0.03
"""The largest share of an encoder's parameters that its files may lack."""


# -- files ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def folder(encoder: str, revision: str | None, form: Form = SPEECH) -> Path:
    """Return the folder of an encoder's files, which are downloaded first where they are not on this machine.

    encoder : a folder, a Hugging Face name, or ``NAME@IDENTITY`` of ``portable``. form : of speech or of text.

    Raises ConfigError where they are not available, or the folder holds no encoder.
    """
    local, known = expanded(encoder), IDENTIFIED.fullmatch(encoder)
    if local.is_dir():
        path = local
    elif known is not None:
        path = find(known["identity"], form) or _fetched(encoder, known["name"], known["identity"], revision, form)
    elif local.is_absolute() or encoder.startswith((".", "~")):
        raise ConfigError(f"{form.setting}: there is no folder {encoder}")
    else:
        path = _download(encoder, revision, form)
    for name in form.needed:
        if not (path / name).is_file():
            raise ConfigError(f"{form.setting} {encoder}: it has no {name}; a {form.of} encoder is a folder written by "
                              f"save_pretrained of a model and of its {form.beside}")
    if not weights(path):
        raise ConfigError(f"{form.setting} {encoder}: it has no weights (model.safetensors)")
    return path


def form_of(encoder: str) -> Form:
    """Return of what form the encoder in a folder is: TEXT where it has a tokenizer alone, else SPEECH."""
    place = expanded(encoder)
    return TEXT if _complete(place, TEXT) and not _complete(place, SPEECH) else SPEECH


def required(kind: str, encoder: str | None, revision: str | None) -> Path:
    """Return the folder of the encoder that a kind of features needs; ConfigError as ``folder``, and for None."""
    if encoder is None:
        raise ConfigError(f"features.kind {kind} needs an encoder: set features.encoder to a Hugging Face name, such "
                          "as openai/whisper-base, or to a folder that holds one")
    return folder(encoder, revision)


def portable(encoder: str, revision: str | None, form: Form = SPEECH) -> str:
    """Return an encoder as ``NAME@IDENTITY``, by which ``folder`` finds it on other machines too.

    NAME is empty where the encoder was given by its folder: no path of this machine is disclosed.
    """
    known = IDENTIFIED.fullmatch(encoder)
    local = known is None and expanded(encoder).is_dir()
    name = known["name"] if known is not None else "" if local else encoder
    return f"{name}@{identity(folder(encoder, revision, form), form)}"


def find(wanted: str, form: Form = SPEECH) -> Path | None:
    """Return the folder of the encoder with an identity, where this machine has it; None elsewhere.

    Looked through are the folders that p2pser has used before, those of the variable ``P2PSER_ENCODERS`` (encoders, or
    folders that hold some) and Hugging Face's cache.
    """
    with contextlib.suppress(OSError, ValueError):
        used = Path(json.loads((cache_folder() / "encoders" / f"{wanted}.json").read_text(encoding="utf-8")))
        if _holds(used, wanted, form):
            return used
    named = [expanded(each) for each in os.environ.get("P2PSER_ENCODERS", "").split(os.pathsep) if each]
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    places = [*named, *(path for each in named for path in sorted(each.glob("*"))),
              *sorted(expanded(hub).glob("models--*/snapshots/*"))]
    return next((path for path in places if _holds(path, wanted, form)), None)


def _complete(path: Path, form: Form) -> bool:
    return all((path / name).is_file() for name in form.needed) and bool(weights(path))


def _holds(path: Path, wanted: str, form: Form) -> bool:
    """Whether a folder holds the encoder with this identity."""
    with contextlib.suppress(OSError):
        return _complete(path, form) and identity(path, form) == wanted
    return False


def _fetched(encoder: str, name: str, wanted: str, revision: str | None, form: Form) -> Path:
    """Return the folder of the encoder, downloaded by its name. Raises ConfigError where it is not the one wanted."""
    remedy = f"give the folder that holds it by --encoder or {form.setting}, or name the folder in P2PSER_ENCODERS"
    if not name:
        raise ConfigError(f"the {form.of} encoder {encoder} is not on this machine: {remedy}")
    path = _download(name, revision, form)
    if not _holds(path, wanted, form):
        raise ConfigError(f"the {form.of} encoder {name} has changed since: its identity is {identity(path, form)}, "
                          f"and {wanted} is needed: {remedy}")
    return path


def weights(path: Path) -> list[Path]:
    """Return the weight files of an encoder, sorted: safetensors, or torch's where there are none."""
    return next((files for pattern in _WEIGHTS if (files := sorted(path.glob(pattern)))), [])


def _download(encoder: str, revision: str | None, form: Form) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(INSTALL) from None
    try:
        for pattern in _WEIGHTS:
            path = Path(snapshot_download(encoder, revision=revision, allow_patterns=[*form.needed, "*.json", pattern],
                                          ignore_patterns=["*fp32*", "*optimizer*", "training_args.bin"]))
            if weights(path):
                break
    except HFValidationError:
        raise ConfigError(f"{form.setting} {encoder!r} is neither a folder nor a Hugging Face name") from None
    except Exception as error:  # the hub's client passes on the errors of its HTTP library too
        why = "there is no network" if isinstance(error, LocalEntryNotFoundError | OSError) else type(error).__name__
        at = f" at {revision}" if revision else ""
        raise ConfigError(
            f"the encoder {encoder}{at} is not on this machine and could not be fetched from Hugging Face ({why}): "
            f"check its name, or fetch it where there is a network (hf download {encoder}) and set {form.setting} "
            "to its folder") from None
    return path


def described(path: Path, form: Form) -> dict[str, Any]:
    """Return what an encoder's config.json says. Raises ConfigError where it is damaged."""
    document = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(read_text(path / "config.json", f"the {form.of} encoder's", ConfigError))
    if not isinstance(document, dict):
        raise ConfigError(f"{form.setting} {path}: its config.json is damaged (it is no JSON mapping): {AGAIN}")
    return document


@lru_cache(maxsize=8)
def layers_and_size(path: Path) -> tuple[int, int]:
    """Return the number of layers and their width, from config.json. Raises ConfigError where it lacks them."""
    document = described(path, SPEECH)
    layers = document.get("encoder_layers", document.get("num_hidden_layers"))
    size = document.get("d_model", document.get("hidden_size"))
    if not isinstance(layers, int) or not isinstance(size, int):
        raise ConfigError(f"features.encoder {path}: its config.json says neither how many layers it has nor how "
                          "wide they are; it is not a speech encoder that p2pser knows")
    return layers, size


def lower(layers: int) -> int:
    """Return the number of layers of the lower two thirds, at least 1."""
    return -(-2 * layers // 3)


def middle(layers: int) -> tuple[int, ...]:
    """Return the layers at a third, at half and at two thirds of the depth, from 1: (4, 6, 8) of 12."""
    return tuple(sorted({-(-layers // 3), -(-layers // 2), lower(layers)}))


@lru_cache(maxsize=8)
def identity(path: Path, form: Form = SPEECH) -> str:
    """Return a digest of an encoder's files: the same for a downloaded encoder and for a copy in another folder."""
    index = cache.Index()
    digest = hashlib.blake2b(digest_size=8)
    for file in [*(path / name for name in form.needed), *weights(path)]:
        known = index.find(file)
        if known is None:
            state = file.stat()
            known = cache.content_digest(file)
            index.remember(file, known, (state.st_size, state.st_mtime_ns))
        digest.update(f"{file.name} {known}\n".encode())
    index.write()
    identifier = digest.hexdigest()
    _remember(identifier, path)
    return identifier


def _remember(identity: str, path: Path) -> None:
    """Note where an encoder is, for ``find``; where the cache cannot be written it finds it elsewhere."""
    note, place = cache_folder() / "encoders" / f"{identity}.json", json.dumps(str(path.resolve()))
    with contextlib.suppress(OSError):
        if not note.exists() or note.read_text(encoding="utf-8") != place:
            put(note, place.encode(), durable=False)


# -- layers --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _load(path: Path) -> tuple[Any, Any]:
    """Return the feature extractor and the encoder, in evaluation mode."""
    with loading(path) as transformers:
        prepare = transformers.AutoFeatureExtractor.from_pretrained(path, local_files_only=True)
    return prepare, model(path)


def model(path: Path) -> Any:
    """Return the encoder in a folder, float32, in evaluation mode. Raises ConfigError where it cannot be loaded."""
    with loading(path) as transformers:
        whole, info = transformers.AutoModel.from_pretrained(path, local_files_only=True, output_loading_info=True)
    encoder = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    require_whole(path, whole, encoder, info["missing_keys"])
    return encoder.float().eval()


def require_whole(path: Path, whole: Any, encoder: Any, missing: Collection[str]) -> None:
    """Raise ConfigError where an encoder's files lack parameters of it, which transformers draws at random instead.

    Heads and what serves training only may be missing: ``MISSING`` of all parameters. whole : the model that was
    loaded, of which the encoder is a part. missing : the names of its parameters that the files lack.
    """
    own = set(map(id, encoder.parameters()))
    sizes = {name: each.numel() for name, each in whole.named_parameters() if id(each) in own}
    lacking, there = sum(sizes.get(name, 0) for name in missing), sum(sizes.values())
    if lacking > MISSING * there:
        raise ConfigError(f"the files of the encoder in {path} lack {lacking:,} of its {there:,} parameters: they are "
                          f"those of another model, or incomplete; {AGAIN}")


@contextlib.contextmanager
def loading(path: Path) -> Iterator[Any]:
    """Yield transformers, quiet. Raises ConfigError where it is missing, or what is done with it fails."""
    try:
        import transformers
    except ImportError:
        raise ConfigError(INSTALL) from None
    transformers.utils.logging.disable_progress_bar()
    # A checkpoint also holds a decoder or heads: that the encoder does not use them is no warning.
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield transformers
    except P2PSERError:
        raise
    except Exception as error:  # what libraries say of damaged files is of many types
        raise ConfigError(f"the encoder in {path} cannot be loaded ({in_one_line(error, 300)}): {AGAIN}") from None
    finally:
        logger.setLevel(level)


def means(hidden: Array) -> Array:
    """Return the mean over time (layers + 1, D) float32 of ``states``."""
    import torch

    averages: Array = torch.stack([torch.from_numpy(layer).mean(dim=0) for layer in hidden]).numpy().astype(np.float32)
    return averages


def states(path: Path, signal: Array, sample_rate: int, layers: int) -> Array:
    """Return the output of the first layers and, as row 0, their input at the positions that hear the signal:
    (layers + 1, positions, D) float32.

    Parameters
    ----------
    path : the encoder's folder.
    signal : (samples,), full scale 1.
    sample_rate : of the signal [Hz].
    layers : how many layers are computed, from 1 to all.

    Raises ConfigError where the encoder cannot be loaded or needs another sample rate.
    """
    prepare, encoder = _load(path)
    import torch

    if prepare.sampling_rate != sample_rate:
        raise ConfigError(f"the encoder in {path} takes {prepare.sampling_rate} samples a second, not {sample_rate}: "
                          f"set features.sample_rate={prepare.sampling_rate}")
    signal = levels.middle(signal, round(LONGEST * sample_rate))
    inputs = prepare(signal, sampling_rate=sample_rate, return_tensors="pt")
    with torch.inference_mode():
        hidden = _states(encoder, inputs, layers, layers_and_size(path)[0])
    steps = int(hidden[0].shape[1])
    if "input_features" in inputs and getattr(prepare, "n_samples", None):
        # Whisper always takes 30 s: the silence after a shorter clip does not count in the mean. It must be there:
        # with 0.5, 2 or 8 s of it EMO-DB loses 1.7, 1.4 or 1.1 points of UAR (training statistics, two seeds).
        steps = max(1, min(steps, -(-steps * signal.size // int(prepare.n_samples))))
    by_layer: Array = torch.stack([state[0, :steps] for state in hidden]).numpy()
    return by_layer


class _Enough(Exception):
    """The last layer that is wanted has been computed."""


def _states(model: Any, inputs: Any, layers: int, of: int) -> Sequence[Any]:
    """Return the input of the first layer and the outputs of the first ``layers`` layers ``of`` all, (1, steps, D).

    The layers above are not computed.
    """
    from torch import nn

    stacks = [each for name, each in model.named_modules()
              if name.rpartition(".")[2] == "layers" and isinstance(each, nn.ModuleList) and len(each) == of]
    if layers == of or len(stacks) != 1:
        hidden: Sequence[Any] = model(**inputs, output_hidden_states=True).hidden_states[: layers + 1]
        return hidden
    states: list[Any] = []

    def keep(layer: Any, given: Sequence[Any], named: Mapping[str, Any], output: Any) -> None:
        if not states:
            states.append(given[0] if given else named["hidden_states"])
        states.append(output[0] if isinstance(output, tuple) else output)
        if len(states) > layers:
            raise _Enough

    handles = [layer.register_forward_hook(keep, with_kwargs=True) for layer in stacks[0]]
    try:
        with contextlib.suppress(_Enough):
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return states
