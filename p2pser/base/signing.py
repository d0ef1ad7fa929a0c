"""The author of a file, and whether it was changed: documents (YAML) signed with Ed25519 (RFC 8032).

The signature is the entry ``signed`` of the document, and covers its values, not its bytes: layout and comments may
change. The key is in the entry too. So a valid signature shows that nothing was changed without the author's secret.
The *owner* of the key must be verified by comparing its fingerprint with the author by another channel, such as by
telephone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from p2pser.base.errors import P2PSERError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNED = "signed"
"""The entry of a document that holds its signature: ``{by: KEY, signature: …}``, both in hexadecimal."""
KEY_DIGITS, SIGNATURE_DIGITS = 64, 128
_PURPOSE, _DOMAIN = b"p2pser signing key 1", b"p2pser signed document 1\n"


def signed(document: Mapping[str, Any], secret: bytes) -> dict[str, Any]:
    """Return a document with its signature; an earlier one is replaced.

    secret : 32 bytes, such as a secret CURVE key; the signing key is derived from it. Raises ValueError where the
    document has values that JSON cannot represent.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _signing_key(secret)
    by = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    return {**_unsigned(document), SIGNED: {"by": by, "signature": key.sign(_content(document)).hex()}}


def author(document: Any, where: str, error: type[P2PSERError]) -> str | None:
    """Return the public key (64 hexadecimal digits) that a document is signed with; None if it is not signed.

    where : the document's name. Raises ``error`` where the signature does not fit the document.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(document, Mapping) or SIGNED not in document:
        return None
    entry = document[SIGNED]
    by, signature = (str(entry.get(name)) for name in ("by", "signature")) if isinstance(entry, Mapping) else ("", "")
    if not is_key(by) or not _is_hex(signature, SIGNATURE_DIGITS):
        raise error(f"{where}: the entry {SIGNED!r} holds no signature; get the file again from its author")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(by)).verify(bytes.fromhex(signature), _content(document))
    except (InvalidSignature, ValueError):
        raise error(f"{where} was changed after {fingerprint(by)} had signed it: get it again from its "
                    "author") from None
    return by


def fingerprint(key: str) -> str:
    """Return a short form of a public key for comparison: 24 hexadecimal digits of its SHA-256, in groups of four."""
    digits = hashlib.sha256(bytes.fromhex(key)).hexdigest()[:24]
    return "-".join(digits[i:i + 4] for i in range(0, len(digits), 4))


def is_key(value: object) -> bool:
    """Whether this is a public key in the form that ``author`` returns."""
    return _is_hex(value, KEY_DIGITS)


def _is_hex(value: object, digits: int) -> bool:
    return isinstance(value, str) and len(value) == digits and set(value) <= set("0123456789abcdef")


def _unsigned(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != SIGNED}


def _content(document: Mapping[str, Any]) -> bytes:
    """Return the signed bytes. Raises ValueError where JSON cannot represent the document (NaN, dates, …)."""
    try:
        text = json.dumps(_unsigned(document), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, RecursionError) as reason:
        raise ValueError(f"it cannot be signed: {reason}") from None
    return _DOMAIN + text.encode()


def _signing_key(secret: bytes) -> Ed25519PrivateKey:
    """Return the signing key derived from a secret (HKDF-SHA256), since X25519 has no signatures."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret))
