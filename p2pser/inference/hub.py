"""Models on a Hugging Face hub: written there with a card in its format, and read back as new model directories.

What comes from a hub is checked as any model directory, and nothing in it is executed: of a repository only files of
known names are taken, up to a size, and their digests are compared with those that the hub gives.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pser.base.atomic import new_folder
from p2pser.base.errors import ModelError, P2PSERError
from p2pser.base.wording import extra, size
from p2pser.inference.hub_card import readme
from p2pser.inference.predictor import load
from p2pser.models.directory import CARD, NETWORK, WEIGHTS, Card

FILES = (CARD, WEIGHTS, NETWORK)
"""The files of a model directory; no other is sent or fetched."""

README = "README.md"

LARGEST = 2_000_000_000
"""The largest file that is fetched [bytes]."""


@dataclass(frozen=True)
class Stored:
    """A model on a hub: its repository, and the commit that holds it."""

    repo: str
    commit: str
    card: Card


def push(model: Path, repo: str, *, licence: str | None = None, private: bool = False, revision: str | None = None,
         results: Mapping[str, Any] | None = None, keep_readme: bool = False, encoder: str | None = None) -> Stored:
    """Write a model directory to a repository, in one commit; the repository is made where there is none.

    Parameters
    ----------
    model : the directory. repo : OWNER/NAME.
    licence : the model's licence as the hub names it (apache-2.0); None: the hub's card names none.
    private : whether a new repository is visible to its owner only.
    revision : the branch; None: the main one. A missing branch is made.
    results : what ``p2pser evaluate --json`` printed, for the hub's card.
    keep_readme : leave the repository's README.md as it is.
    encoder : as for ``load``.

    Raises ModelError where the model cannot be used, or the hub refuses or is not reached.
    """
    hub, card = _library(), load(model, encoder).card
    names = [name for name in FILES if (model / name).is_file()]
    changes = [hub.CommitOperationAdd(name, str(model / name)) for name in names]
    if not keep_readme:
        text = readme(card, repo, licence, results, light=NETWORK in names)
        changes.append(hub.CommitOperationAdd(README, text.encode()))
    with _in_words(repo, revision):
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        done = api.create_commit(repo, changes, commit_message=f"Model for {', '.join(card.labels) or 'dimensions'}",
                                 revision=revision)
    return Stored(repo, str(done.oid), card)


def pull(repo: str, out: Path, *, revision: str | None = None, encoder: str | None = None) -> Stored:
    """Fetch a model into a new directory, whole or not at all. A transfer that was cut is resumed by the next call.

    Parameters
    ----------
    repo : OWNER/NAME. out : the new directory.
    revision : a branch, a tag or a commit; None: the main branch.
    encoder : as for ``load``.

    Raises ModelError where ``out`` exists, the hub refuses or is not reached, or the repository holds no model that can
    be used.
    """
    api = _library().HfApi()
    if out.exists():
        raise ModelError(f"{out} exists already; remove it, or write the model elsewhere")
    with _in_words(repo, revision):
        info = api.model_info(repo, revision=revision, files_metadata=True)
    there = {each.rfilename: each for each in info.siblings or () if each.rfilename in FILES}
    if CARD not in there or len(there) < 2:
        raise ModelError(f"{repo} holds no model of p2pser: it lacks {CARD if CARD not in there else WEIGHTS}")
    for name, each in there.items():
        if each.size is None or each.size > LARGEST:
            raise ModelError(f"{name} of {repo} has {'no size' if each.size is None else size(each.size)}: a model's "
                             f"files have {size(LARGEST)} at most")
    try:
        with new_folder(out) as folder:
            for name, each in there.items():
                with _in_words(repo, revision):
                    got = api.hf_hub_download(repo, name, revision=info.sha)
                shutil.copyfile(got, folder / name)
                _require_digest(folder / name, each, repo)
            try:
                card = load(folder, encoder).card
            except P2PSERError as error:
                raise ModelError(str(error).replace(str(folder), repo)) from None
    except OSError as error:
        raise ModelError(f"cannot write the model {out}: {error.strerror or error}") from None
    return Stored(repo, str(info.sha), card)


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ModelError(f"models on a hub need the extra hub: {extra('hub')}") from None
    return huggingface_hub


def _require_digest(path: Path, entry: Any, repo: str) -> None:
    """Raise ModelError where a file has another digest than the hub says: large files go by SHA-256, others by git's
    digest.
    """
    large = getattr(entry, "lfs", None)
    begin = b"" if large else f"blob {path.stat().st_size}\0".encode()
    digest = hashlib.sha256() if large else hashlib.sha1(begin, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    expected = large.sha256 if large else entry.blob_id
    if path.stat().st_size != entry.size or digest.hexdigest() != expected:
        raise ModelError(f"{path.name} of {repo} arrived damaged: its digest is not the hub's; remove it from Hugging "
                         "Face's cache, and call this again")


@contextlib.contextmanager
def _in_words(repo: str, revision: str | None) -> Iterator[None]:
    """Turn errors of the hub's library into ModelErrors that say what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError:
        raise ModelError(f"{repo!r} is not the name of a repository: write OWNER/NAME") from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{repo} has no branch, tag or commit {revision or 'main'}") from None
    except errors.GatedRepoError:
        raise ModelError(f"{repo} asks for its authors' consent: ask for it on its page, and log in (hf auth login, or "
                         "the variable HF_TOKEN)") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(f"the hub has no model {repo}, or none for you: check its name; for a private one log in (hf "
                         "auth login, or the variable HF_TOKEN)") from None
    except errors.HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else None
        if code in (401, 403):
            raise ModelError(f"the hub refuses this for {repo}: log in with a token that may do it (hf auth login, or "
                             "the variable HF_TOKEN)") from None
        raise ModelError(f"the hub failed for {repo} ({_line(error)}): call this again later") from None
    except Exception as error:  # the library's transport has its own errors, which differ by version
        raise ModelError(f"the hub was not reached for {repo} ({_line(error)}): call this again, which resumes "
                         "transfers") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
