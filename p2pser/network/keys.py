"""CURVE key pairs, and the decision which public keys are admitted (ZAP, without its socket).

Keys are Z85 text of 40 characters (RFC 32 of ZeroMQ), as topology files hold them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import zmq
from zmq.utils import z85

from p2pser.base.atomic import new_file
from p2pser.base.errors import ConfigError
from p2pser.base.paths import config_folder

SECRET_BYTES = 32
"""Size of the user's secret, and of a raw key [B]."""
MAX_REFUSALS = 256
"""Largest number of refused keys that are reported."""

REFUSALS = (b"400", b"500")
"""ZeroMQ's status for a refused key where the epoch of our topology file is even, and where it is odd."""

_PERSON, _PERSON_OF_DRAWS = b"p2pser-curve-v1", b"p2pser-draws-v1"
_LOST = ("give its place (network.secret_key); a new one (p2pser keys, or p2pser accept) must go into the topology "
         "file of all sites")
_HEAD = "# p2pser: the CURVE key pair of one peer. Keep this file to yourself; share the public key only.\n"


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair, both keys in Z85. The secret key is never printed."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> KeyPair:
        """Return the key pair of a raw secret key (32 bytes)."""
        encoded = z85.encode(secret)
        return cls(zmq.curve_public(encoded).decode(), encoded.decode())


def make() -> KeyPair:
    """Return a new random key pair."""
    return KeyPair.of(secrets.token_bytes(SECRET_BYTES))


def derive(secret: bytes, run: str, peer: int) -> KeyPair:
    """Return the key pair of a peer in a run, derived from the user's secret (SECRET_BYTES bytes).

    The secret key is a keyed hash of run and id, so all machines with the secret derive the same keys. Used where the
    topology file gives no keys.
    """
    name = run.encode()
    # The length comes first, so that no two pairs (run, peer) give the same bytes.
    data = len(name).to_bytes(4, "little") + name + peer.to_bytes(8, "little")
    return KeyPair.of(hashlib.blake2b(data, digest_size=32, key=secret, person=_PERSON).digest())


def derive_draws(secret: bytes, seed: int, peer: int) -> bytes:
    """Return the key of a peer's random draws (32 bytes) in runs with this seed, derived from the user's secret."""
    data = seed.to_bytes(8, "little") + peer.to_bytes(8, "little")
    return hashlib.blake2b(data, digest_size=SECRET_BYTES, key=secret, person=_PERSON_OF_DRAWS).digest()


def shared_secret(own: KeyPair, public: str, run: str) -> bytes:
    """Return 32 bytes that only the holders of two key pairs can compute: X25519, then HKDF-SHA256 with the run's name.

    CURVE keys are keys of Curve25519, so they serve. public : the other peer's key, Z85. Raises ValueError for an
    invalid key.
    """
    # Imported here: only secure sums need it.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    agreed = X25519PrivateKey.from_private_bytes(raw_key(own.secret)).exchange(X25519PublicKey.from_public_bytes(
        raw_key(public)))
    return HKDF(SHA256(), length=32, salt=None, info=b"p2pser pair 1" + run.encode()).derive(agreed)


def default_secret_path() -> Path:
    """Return the default path of the user's secret: ``~/.config/p2pser/secret``."""
    return config_folder() / "secret"


def load_or_make_secret(path: Path | None = None, make: Callable[[], bytes] | None = None) -> bytes:
    """Return a secret (32 bytes), by default the user's; create it on first use (mode 0600, a new folder 0700).

    make : returns the bytes of a new secret; default: random bytes.

    Processes that call this at the same time get the same secret. Raises ConfigError where the file does not have 32
    bytes, other users may read it, or it cannot be read or written.
    """
    path = path or default_secret_path()
    try:
        if not path.exists():
            # Another process may create it first: then we read that one.
            with contextlib.suppress(FileExistsError):
                _write_new(path, secrets.token_bytes(SECRET_BYTES) if make is None else make())
        secret = _read_private(path)
    except OSError as error:
        raise ConfigError(f"cannot use the secret {path}: {error.strerror}; choose another file "
                          "(network.secret) or folder (--out)") from None
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"the secret {path} has {len(secret)} bytes, not {SECRET_BYTES}; remove it to create a new one"
        )
    return secret


def write_key_pair(path: Path, pair: KeyPair) -> None:
    """Write a key pair to a new file, mode 0600. Raises ConfigError where the file exists."""
    text = f'{_HEAD}public: "{pair.public}"\nsecret: "{pair.secret}"\n'
    try:
        _write_new(path, text.encode())
    except FileExistsError:
        raise ConfigError(f"{path} exists; remove it first if its key is to be replaced") from None
    except OSError as error:
        raise ConfigError(f"cannot write the key file {path}: {error.strerror}") from None


def read_secret_key(path: Path) -> KeyPair:
    """Return the key pair in a file of ``write_key_pair``, or in a file with only a secret key (Z85).

    Raises ConfigError where other users may read the file, or it holds no secret key.
    """
    try:
        text = _read_private(path).decode("ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"cannot read the key file {path}: {error.strerror}; {_LOST}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("# ")]
    fields = {name: value.strip('"') for name, gap, value in (line.partition(": ") for line in lines) if gap}
    try:
        pair = KeyPair.of(raw_key(fields["secret"] if fields else lines[0].strip('"')))
    except (KeyError, IndexError, ValueError):
        raise ConfigError(f"{path} holds no secret key; {_LOST}") from None
    if fields.get("public", pair.public) != pair.public:
        raise ConfigError(f"the two keys in {path} are not a pair; make one with p2pser keys")
    return pair


class Zap:
    """Answers libzmq's authentication requests (ZAP, RFC 27).

    ``admitted`` maps the neighbours' public keys (Z85) to their ids. An admitted connection gets the id as its User-Id,
    which every frame then carries. A refused peer learns whether the ``epoch`` of our topology file is even or odd: a
    later file may list its key (``may_be_older``).
    """

    def __init__(self, admitted: Mapping[str, int], epoch: int = 0) -> None:
        self._refusal = REFUSALS[epoch % 2]
        self._admitted = dict(admitted)
        self._barred: set[int] = set()
        self._new: list[str] = []
        self.refused: set[str] = set()
        """The keys (or mechanisms) that were refused and reported."""

    def reply(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """Return the reply to a request, or None where the frames are not a request.

        frames : as received by a REP socket, or by a ROUTER with the envelope, which the reply then begins with.
        """
        at = 0 if frames and frames[0] == b"1.0" else _after_envelope(frames)
        request = frames[at:]
        if len(request) < 6 or request[0] != b"1.0":
            return None
        request_id, address, mechanism, credentials = request[1], request[3], request[5], request[6:]
        peer = None
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == SECRET_BYTES:
            key = z85.encode(credentials[0]).decode()
            peer = self._admitted.get(key)
        else:
            key = f"none (mechanism {mechanism.decode('ascii', errors='replace')[:20]!r})"
        if peer in self._barred:
            peer = None
        elif peer is None:
            self._note(key, address.decode("ascii", errors="replace")[:60])
        status, text, user = (b"200", b"OK", b"%d" % peer) if peer is not None else (self._refusal, _REASON, b"")
        return [*frames[:at], b"1.0", request_id, status, text, user, b""]

    def replace(self, peer: int, key: str) -> None:
        """Admit a neighbour with this key only."""
        self._admitted = {other: i for other, i in self._admitted.items() if i != peer} | {key: peer}

    def bar(self, peer: int) -> None:
        """Admit a neighbour's key no longer."""
        self._barred.add(peer)

    def refusals(self) -> list[str]:
        """Return a sentence for each key that was refused for the first time since the last call."""
        new, self._new = self._new, []
        return new

    def _note(self, key: str, address: str) -> None:
        if key not in self.refused and len(self.refused) < MAX_REFUSALS:
            self.refused.add(key)
            self._new.append(f"a connection from {address} was refused: its public key is {key}, which the topology "
                             "file gives to no neighbour of this peer")


def may_be_older(epoch: int, status: int) -> bool:
    """Whether the listener that refused our key may have an older topology file than ours.

    epoch : the epoch of our file. status : ZeroMQ's status of the refusal, which tells whether the listener's epoch is
    even or odd; ZeroMQ lets it send no more. Epochs follow one another, so another parity stands for the epoch before.
    """
    return epoch > 0 and status != int(REFUSALS[epoch % 2])


_REASON = b"this key is no neighbour's"


def _after_envelope(frames: Sequence[bytes]) -> int:
    return frames.index(b"") + 1 if b"" in frames else len(frames)


def raw_key(key: str) -> bytes:
    """Return the 32 bytes of a Z85 key. Raises ValueError where it is not a key."""
    if len(key) != 40:
        raise ValueError("a key has 40 characters")
    try:
        raw: bytes = z85.decode(key)
    except (KeyError, struct.error):
        raise ValueError("a key is Z85") from None
    if len(raw) != SECRET_BYTES:
        raise ValueError("a key has 32 bytes")
    return raw


def _read_private(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # reading a pipe would wait for its writer
        raise ConfigError(f"the secret {path} is not a file: give the path of the file that holds it")
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ConfigError(f"other users may read {path}; run: chmod 600 {quote(str(path))}")
        return file.read(4096)


def _write_new(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, whole or not at all. Raises FileExistsError where it exists."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with new_file(path, mode=0o600, replace=False) as file:
        file.write(data)
