"""What a request's body holds: a recording itself, or a form with recordings and what is said in them (RFC 7578)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from p2pser.base.errors import CorpusError
from p2pser.base.wording import counted

MOST = 200
"""Recordings of a form."""

HEAD = 2048
"""Largest head of a field [bytes]."""

FIELDS = "a form has the field file for a recording (up to 200) and the field text for what is said in it"


@dataclass(frozen=True)
class Body:
    """The recordings of a request, and what is said in each; "" where that is not known."""

    recordings: list[bytes]
    texts: list[str]

    @property
    def several(self) -> bool:
        """Whether there are several recordings."""
        return len(self.recordings) > 1


def read(content_type: str, content: bytes) -> Body:
    """Return what a request's body holds. Raises CorpusError where it is a form that cannot be used."""
    if not content_type.lower().startswith("multipart/"):
        return Body([content], [""])
    recordings, texts = [], []
    for name, value in _fields(content_type, content):
        if name == "file":
            recordings.append(value)
        elif name == "text":
            try:
                texts.append(value.decode("utf-8"))
            except UnicodeDecodeError:
                raise CorpusError("the field text is not UTF-8") from None
        else:
            raise CorpusError(f"there is no field {name[:40]!r}: {FIELDS}")
    if not recordings:
        raise CorpusError(f"the form has no recording: {FIELDS}")
    if len(recordings) > MOST:
        raise CorpusError(f"the form has {len(recordings)} recordings, and {MOST} are answered at most: send the rest "
                          "in another form")
    if texts and len(texts) != len(recordings):
        raise CorpusError(f"the form has {counted(len(texts), 'text')} for {counted(len(recordings), 'recording')}: "
                          "give one for each, empty where it is not known")
    return Body(recordings, texts or [""] * len(recordings))


def _fields(content_type: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each field of a form."""
    head = Message()
    head["Content-Type"] = content_type
    boundary = head.get_boundary() or ""
    if head.get_content_type() != "multipart/form-data" or not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise CorpusError("the body is not a form that can be read: send multipart/form-data, as curl -F does")
    _, *fields = (b"\r\n" + content).split(b"\r\n--" + boundary.encode("ascii"), 2 * MOST + 1)
    if not fields or not fields[-1].startswith(b"--"):
        raise CorpusError(f"the form is cut short, or has more than {2 * MOST} fields: {FIELDS}")
    for field in fields[:-1]:
        start, blank, value = field.partition(b"\r\n\r\n")
        name = None
        if blank and len(start) <= HEAD:
            name = BytesHeaderParser().parsebytes(start.lstrip()).get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise CorpusError(f"a field of the form has no name: {FIELDS}")
        yield name, value
