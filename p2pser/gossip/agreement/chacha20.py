"""Streams of secret bytes."""

from __future__ import annotations

from collections.abc import Callable


def chacha20(secret: bytes, info: bytes) -> Callable[[int], bytes]:
    """Return a function that gives the next so many bytes of the ChaCha20 stream of a key.

    The key is derived from a secret by HKDF with SHA-256; another ``info`` gives another stream.
    """
    # Imported here: most runs need none of it.
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(SHA256(), length=32, salt=None, info=info).derive(secret)
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return lambda size: stream.update(bytes(size))
