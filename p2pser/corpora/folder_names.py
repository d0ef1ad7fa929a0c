"""What a folder's name says where it names neither an emotion nor a speaker: a split, or a session of a speaker."""

from __future__ import annotations

import re
import unicodedata

_SPLITS = """train training test testing val valid validate validation dev devel development eval evaluation"""
_OF_SPLITS = """set split fold data"""
"""Words beside those of a split: ``test_set``, ``train fold 1``."""

_SESSIONS = """
session sess ses visit day week month take part recording rec tape trial round block pre post before after pretest
posttest baseline follow followup
sitzung besuch tag woche monat aufnahme messung termin durchgang vor nach vorher nachher
séance seance visite jour semaine mois enregistrement prise avant après apres
sesión sesion visita día dia semana mes toma grabación grabacion antes después despues
sessione giorno settimana mese registrazione prima dopo
"""
_OF_SESSIONS = """up test treatment therapy therapie op intervention training morning evening am pm nr no"""
"""Words beside those of a session: ``follow-up``, ``pre-treatment``, ``day 2 morning``."""

_POINT = re.compile(r"t ?\d{1,2}")
"""The points of time of a study: T0, T1."""
_DATE = re.compile(r"((19|20)\d\d[-_.]\d\d?([-_.]\d\d?)?|\d\d?[-_.]\d\d?[-_.]\d\d(\d\d)?|"
                   r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01]))([t_ -][\d:._-]+)?")


def is_split(name: str) -> bool:
    """Return whether a folder's name is one of a split.

    >>> is_split("Train"), is_split("test_set"), is_split("anna")
    (True, True, False)
    """
    return _of(_plain(name), _SPLITS, _OF_SPLITS)


def is_session(name: str) -> bool:
    """Return whether a folder's name is one of a session, a visit, a recording or a day, in one of five languages.

    >>> is_session("visit1"), is_session("Pre-treatment"), is_session("T0"), is_session("2024-01-31"), is_session("P01")
    (True, True, True, True, False)
    """
    plain = _plain(name)
    return bool(_POINT.fullmatch(plain) or _DATE.fullmatch(plain)) or _of(plain, _SESSIONS, _OF_SESSIONS)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _of(plain: str, names: str, others: str) -> bool:
    words = set(re.findall(r"[^\W\d_]+", plain))
    return bool(words & {*names.split()}) and words <= {*names.split(), *others.split()}
