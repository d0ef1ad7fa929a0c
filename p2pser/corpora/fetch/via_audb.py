"""Downloads through audb (extra ``audb``), where audEERING publishes corpora: the same recordings, other tables."""

from __future__ import annotations

from pathlib import Path

from p2pser.base.errors import ConfigError, CorpusError

DATABASES = {"emodb": "emodb", "crema-d": "crema-d", "ravdess": "ravdess", "nemo": "nemo"}
"""audb's names of the corpora whose format there the adapters read."""


def fetch(name: str, folder: Path, edition: str = "") -> str:
    """Load a corpus with audb into ``folder`` and return its version; ``edition`` selects one.

    Tables are written as CSV, which the adapters read. Raises ConfigError where audb is not installed, CorpusError
    where audb does not have the corpus or cannot load it.
    """
    if name not in DATABASES:
        raise CorpusError(f"{name!r} cannot be fetched through audb, only {', '.join(DATABASES)}")
    try:
        import audb
    except ImportError:
        raise ConfigError("fetching through audb needs its extra: pip install p2pser[audb]") from None
    try:
        version = edition or str(audb.latest_version(DATABASES[name]))
        database = audb.load_to(str(folder), DATABASES[name], version=version, verbose=False)
        database.save(str(folder), storage_format="csv")
    except Exception as error:  # audb, its back ends and their network libraries raise errors of many types
        raise CorpusError(f"audb cannot load {name} {edition}: {' '.join(str(error).split())}".rstrip(" :")) from error
    return version
