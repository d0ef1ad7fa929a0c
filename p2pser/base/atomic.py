"""Files and folders that are written whole or not at all.

Each is written beside its destination under a name that begins with ``.partial-``, then renamed: if the process is
killed or the disk is full, the previous file stays. Any number of processes may write the same file at once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from p2pser.base.errors import CheckpointError, P2PSERError, unwritable
from p2pser.base.paths import existing

P = ParamSpec("P")
T = TypeVar("T")

STANDARD_OUTPUT = 1
"""Its file descriptor."""
PARTIAL = ".partial-"
"""Prefix of the name of an unfinished file or folder."""
PRIVATE = 0o600
"""The mode of a file that only this user may read."""
PATIENCE = 10.0
"""Longest wait for a free file descriptor [s]. Strangers that connect to a peer can use up all of them for a moment."""
PAUSE = 0.05
"""Time between two attempts to open a file [s]."""


def patient(access: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that opens files: while the process has no free descriptor, the function is called again.

    It must be safe to call it twice. After ``PATIENCE`` seconds its OSError is raised.
    """
    @functools.wraps(access)
    def attempts(*args: P.args, **kwargs: P.kwargs) -> T:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return access(*args, **kwargs)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or time.monotonic() >= until:
                    raise
            time.sleep(PAUSE)

    return attempts


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = 0o666, durable: bool = True, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears at ``path`` when the block ends, and not at all when the block raises.

    Parameters
    ----------
    path : where the file appears; missing folders are made.
    mode : permissions of the file, without those that the umask removes.
    durable : wait until the file is on disk; a cache needs no such guarantee.
    replace : replace an existing file; if False, an existing file stays and FileExistsError is raised.

    Raises
    ------
    OSError : the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if replace:
            os.replace(partial, path)
        else:
            os.link(partial, path)  # unlike a rename, a link never replaces a file
        if durable:
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def put(path: Path, content: bytes, *, mode: int = 0o666, durable: bool = True, pipe: bool = False) -> None:
    """Write a file whole or not at all, as ``new_file`` does. Raises OSError.

    pipe : as a user expects of a table, a pipe, a device or standard output at ``path`` is written to, and of a link
        the file that it names; otherwise a file replaces what is there.
    """
    if pipe and _is_standard_output(path):
        with os.fdopen(os.dup(STANDARD_OUTPUT), "wb") as file:  # behind what was printed, also where it is a file
            file.write(content)
        return
    special = pipe and path.exists() and not path.is_file()
    place = Path(os.path.realpath(path)) if pipe else path
    with path.open("wb") if special else new_file(place, mode=mode, durable=durable) as file:
        file.write(content)


def _is_standard_output(path: Path) -> bool:
    """Whether a path, such as /dev/stdout, names what standard output is now; as root one could replace the name."""
    with contextlib.suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(STANDARD_OUTPUT))
    return False


@contextlib.contextmanager
def new_folder(path: Path, *, durable: bool = True, private: bool = False) -> Iterator[Path]:
    """Make a folder that appears at ``path`` when the block ends, and not at all when the block raises.

    Yields the folder to write into. ``durable``: wait until its files are on disk. ``private``: readable by this user
    only. Raises OSError where it cannot be written or ``path`` is a folder that is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.mkdir(mode=0o700 if private else 0o777)
    try:
        yield partial
        for entry in partial.rglob("*") if private else ():
            entry.chmod(0o700 if entry.is_dir() else PRIVATE)
        if durable:
            for entry in (*partial.rglob("*"), partial):
                _sync(entry)
        os.rename(partial, path)
        if durable:
            _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_place(path: Path, *, folder: bool) -> None:
    """Raise OSError where a file, or a folder of files, cannot be written at ``path``. Nothing is left there."""
    if path.exists() and path.is_dir() != folder:
        number = errno.ENOTDIR if folder else errno.EISDIR
        raise OSError(number, os.strerror(number), str(path))
    if path.exists() and not folder and not path.is_file():
        return  # a pipe or a device: opening it now could end its reader
    path = Path(os.path.realpath(path))
    # A real write: the disk may be full, and permissions do not bind root.
    with tempfile.TemporaryFile(dir=existing(path if folder else path.parent)) as file:
        file.write(b"0")
        file.flush()


def missing_or_empty(folder: Path) -> bool:
    """Whether there is nothing at a path, or an empty folder. Raises OSError where that cannot be read."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def append_at_once(path: Path) -> IO[bytes]:
    """Open a file for reading and appending, unbuffered; a new one is for this user only. Raises OSError."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE), "a+b", buffering=0)


append_privately = patient(append_at_once)


def append_whole(file: IO[bytes], line: bytes, *, durable: bool = False) -> int:
    """Append a line to a file of ``append_at_once``, whole or not at all; return its offset. Raises OSError.

    durable : wait until the line is on disk.
    """
    end = os.fstat(file.fileno()).st_size
    try:
        if file.write(line) != len(line):  # a disk with little room takes a part of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if durable:
            os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise
    return end


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file that only this user may read, and wait until it is on disk.

    A half-written last line is removed first. Raises OSError where the line cannot be written; the file then stays.
    """
    new = not path.exists()
    with append_privately(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read(1) not in (b"\n", b""):
            file.seek(0)
            file.truncate(sum(map(len, whole_lines(file.read()))))
        append_whole(file, line, durable=True)
    if new:
        _sync(path.parent)


def whole_lines(data: bytes) -> list[bytes]:
    """Return the lines of a file's content, each with its line feed, without a half-written last line."""
    return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)


def move(finished: Path, path: Path) -> None:
    """Move a finished file to ``path`` once it is on disk, replacing an old one. Raises OSError."""
    _sync(finished)
    os.replace(finished, path)
    _sync(path.parent)


@patient
def put_json(path: Path, document: Any, *, mode: int = 0o666) -> None:
    """Write a JSON file. Raises OSError."""
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    # A file's name may be no text: JSON has an escape for it.
    put(path, text.encode(errors="backslashreplace"), mode=mode)


def write_json(path: Path, document: Any, *, mode: int = 0o666, error: type[P2PSERError] = CheckpointError) -> None:
    """Write a JSON file; raise ``error`` where it cannot be written."""
    try:
        put_json(path, document, mode=mode)
    except OSError as reason:
        raise unwritable(error, f"cannot write {path}: {reason.strerror or reason}; make room there", reason) from None


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading. Raises OSError, also where the path is a named pipe: its writer may never come."""
    def no_pipe(name: str, flags: int) -> int:
        handle = os.open(name, flags | os.O_NONBLOCK)
        if stat.S_ISFIFO(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.ESPIPE, "it is a pipe, not a file", name)
        return handle

    return open(path, "rb", opener=no_pipe)


@patient
def read(path: Path) -> bytes:
    """Return the content of a file. Raises OSError."""
    with opened(path) as file:
        return file.read()


def read_json(path: Path, form: type[T]) -> T | None:
    """Return the document of ``write_json``; None where there is no file.

    Raises CheckpointError where it cannot be read, is not JSON, or is not of this ``form`` (dict, list, str).
    """
    try:
        document = json.loads(read(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is damaged: it is not JSON; remove it") from None
    if not isinstance(document, form):
        raise CheckpointError(f"{path} is damaged: it holds no {form.__name__}; remove it")
    return document


def _partial(path: Path) -> Path:
    return path.with_name(f"{PARTIAL}{path.name}.{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
