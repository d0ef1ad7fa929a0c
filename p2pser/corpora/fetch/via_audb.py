"""Corpora through audb (extra ``audb``), where audEERING has published them: the same recordings, with its tables."""

from __future__ import annotations

from pathlib import Path

from p2pser.base.errors import ConfigError, CorpusError

DATABASES = {"emodb": "emodb", "crema-d": "crema-d", "ravdess": "ravdess", "nemo": "nemo"}
"""What audb calls the corpora that adapters read as it keeps them."""


def fetch(name: str, folder: Path, edition: str = "") -> str:
    """Load a corpus with audb into ``folder`` and return the version that came; ``edition`` asks for one.

    Tables are written as CSV, which adapters read. Raises ConfigError where audb is not installed, CorpusError where it
    does not have the corpus or cannot load it.
    """
    if name not in DATABASES:
        raise CorpusError(f"audb is not asked for {name!r}: it is for {', '.join(DATABASES)}")
    try:
        import audb
    except ImportError:
        raise ConfigError("fetching through audb needs its extra: pip install p2pser[audb]") from None
    try:
        version = edition or str(audb.latest_version(DATABASES[name]))
        database = audb.load_to(str(folder), DATABASES[name], version=version, verbose=False)
        database.save(str(folder), storage_format="csv")
    except Exception as error:  # audb, its back ends and their network libraries each have errors of their own
        raise CorpusError(f"audb cannot load {name} {edition}: {' '.join(str(error).split())}".rstrip(" :")) from error
    return version
