"""What all tests share: the place of the real corpora, folders of their own, and the guard against leaks."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings
from hypothesis.internal.conjecture import providers

# Before numpy is imported: the last bits of its sums depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np

# The same examples in every run, however slow the machine: a test must not need luck.
settings.register_profile("p2pser", derandomize=True, deadline=None)
settings.load_profile("p2pser")
if hasattr(providers, "_get_local_constants"):
    # Hypothesis also draws constants of the modules that are loaded, which depend on the tests that ran before.
    no_constants = providers.Constants()
    providers._get_local_constants = lambda: no_constants
# The real corpora: beside the checkout, or in the folder that the variable names.
SHARED_DATA = Path(os.environ.get("P2PSER_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")

LEFT_BEHIND_WAIT = 60.0
"""How long what a test started may take to end after the test, on a busy machine [s]."""

NO_LEAKS = ("/dev/", "/proc/", "/sys/", *map(os.path.realpath, (sys.prefix, sys.base_prefix)))
"""Folders whose files may stay open: devices, and the libraries' own files (matplotlib keeps fonts open)."""

CLEAN_UP_WAIT = 120.0
"""How long the fixtures of a failed test may take to clean up [s]; pytest itself stops watching a test that fails."""

WORKER_PORTS = 400
"""Ports of each pytest process, from 10000 on: below those among which the commands that it starts search."""

LONGEST = (
    "network/real/test_hostile.py", "network/schedules/test_same_bits.py", "docs/test_pages.py",
    "network/schedules/test_schedules.py", "network/real/test_returns.py", "theory/test_coming_back.py",
    "network/real/test_partitions.py", "gossip/test_lies.py", "network/real/test_growth.py",
    "theory/test_compression.py", "network/real/test_adapters.py", "network/schedules/test_growing.py",
    "network/real/test_ending.py", "theory/test_asynchronous.py", "network/real/test_secure_average.py",
    "theory/test_push_sum.py", "network/real/test_rejoin.py", "theory/test_relay.py", "network/real/test_chaos.py",
    "theory/test_sparse_loco.py", "network/real/test_runs.py", "theory/test_server.py", "cli/test_peer.py",
    "corpora/test_synthetic.py", "network/real/test_first_site.py", "cli/test_names.py",
    "network/real/test_asynchronous_runs.py", "network/real/test_new_keys.py", "docs/test_notebooks.py",
    "network/real/test_algorithms.py", "test_api.py", "docs/test_plugin.py", "test_house.py")
"""The files that take longest, those that mostly wait and those that mostly compute in turn. They run first, so that no
worker is busy long after the others, and the processors are busy from the beginning.
"""

LASTING_THREADS = ("GarbageCollectorThread", "TMonitor", "_DummyThread")
"""Classes of daemon threads that libraries start once and keep for the whole process (pyzmq's, tqdm's)."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what all test files make from the garbage collector: it stays, and takes a third of a second each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that take longest run first."""
    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """End the process, with the stacks of all threads, where the clean-up of a failed test hangs.

    pytest ends this watch with the test where it watches at all (faulthandler_timeout).
    """
    if isinstance(node, pytest.Item) and float(node.config.getini("faulthandler_timeout") or 0):
        stderr = node.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(CLEAN_UP_WAIT, file=stderr, exit=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real corpora (emodb/, ravdess/); the test is skipped where it is missing."""
    if not (SHARED_DATA / "emodb").is_dir():
        pytest.skip(f"the real corpora are not at {SHARED_DATA}; set P2PSER_SHARED_DATA to their folder")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Search for free ports where no other pytest process of this machine does: one that is free now may be taken by
    a test beside.
    """
    for first in range(10000, 20000, WORKER_PORTS):
        with (Path(tempfile.gettempdir()) / f"p2pser-test-ports-{os.getuid()}-{first}").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("p2pser.peer.launch.PORTS", range(first, first + WORKER_PORTS))
                yield
            return
    raise RuntimeError("all ranges of ports are taken: too many pytest processes run on this machine")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the session and its child processes folders of their own: nothing is written to the user's. The size of the
    user's terminal is not theirs either.

    The feature cache and the synthetic corpus are made once a session, for all of its pytest-xdist workers;
    P2PSER_CACHE, when it is set, keeps them from one session to the next.
    """
    home = tmp_path_factory.mktemp("home")
    session = home.parent.parent if os.environ.get("PYTEST_XDIST_WORKER") else home
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        for name in ("COLUMNS", "LINES"):
            patch.delenv(name, raising=False)
        if not os.environ.get("P2PSER_CACHE"):
            patch.setenv("P2PSER_CACHE", str(session / "p2pser"))
        yield


@pytest.fixture(scope="session")
def slowest_mode() -> Callable[..., np.ndarray]:
    """A function that returns the right eigenvector of a mixing matrix's slem, with mean 0 and (pi-)norm 1."""
    def mode(W: np.ndarray, pi: np.ndarray | None = None) -> np.ndarray:
        root = np.sqrt(np.full(len(W), 1.0) if pi is None else pi)
        balanced = root[:, None] * W / root[None, :]
        values, vectors = np.linalg.eigh((balanced + balanced.T) / 2)
        second = np.argsort(-np.abs(values), kind="stable")[1]
        return vectors[:, second] / root
    return mode


def descendants() -> Iterator[int]:
    """Yield the ids of the processes that this one started, and of those that they started.

    Linux lists each thread's children; where it does not, psutil has to read every process of the machine, so it is
    asked only if there are children at all.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        yield from (child.pid for child in psutil.Process().children(recursive=True))
        return
    parents = [os.getpid()]
    while parents:
        children: list[int] = []
        for path in Path(f"/proc/{parents.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # the thread has ended meanwhile
                children += map(int, path.read_text().split())
        yield from children
        parents += children


def child_processes() -> dict[object, str]:
    """Living descendants of this process, without its direct children that serve multiprocessing."""
    found: dict[object, str] = {}
    for pid in descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            child = psutil.Process(pid)
            command = " ".join(child.cmdline())
            servant = "multiprocessing.forkserver" in command or "resource_tracker" in command
            if child.status() != psutil.STATUS_ZOMBIE and not (servant and child.ppid() == os.getpid()):
                found[(child.pid, child.create_time())] = f"child process {child.pid}: {command[:200]}"
    return found


def threads() -> dict[object, str]:
    """Living threads of this process, without those that libraries keep."""
    return {thread: f"thread {thread.name!r} ({type(thread).__name__})" for thread in threading.enumerate()
            if type(thread).__name__ not in LASTING_THREADS}


def open_files() -> dict[object, str]:
    """Sockets and regular files that this process holds open (Linux; nothing elsewhere)."""
    found: dict[object, str] = {}
    folder = "/proc/self/fd"
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        target = ""
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            target = os.readlink(f"{folder}/{entry}")
        if target.startswith("socket:"):
            found[target] = f"socket: descriptor {entry}, {target}"
        elif target.startswith("/") and not target.startswith(NO_LEAKS):
            found[(entry, target)] = f"file: descriptor {entry}, {target}"
    return found


def _left(before: dict[object, str], look: Callable[[], dict[object, str]]) -> list[str]:
    """Return what ``look`` finds beyond ``before`` and does not go within LEFT_BEHIND_WAIT."""
    pause = threading.Event()
    for tenth in range(int(LEFT_BEHIND_WAIT * 10) + 1):
        left = [description for key, description in look().items() if key not in before]
        if not left:
            return []
        if tenth in (0, 10):
            gc.collect()
        pause.wait(0.1 if tenth else 0.01)
    return left


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a child process, a thread, a socket or an open file is still there."""
    looks = (child_processes, threads, open_files)
    before = [look() for look in looks]
    yield
    left = [description for seen, look in zip(before, looks) for description in _left(seen, look)]
    if left:
        connections = [f"descriptor {each.fd}: {each.status} at {':'.join(map(str, each.laddr))}"
                       for each in psutil.Process().net_connections(kind="inet")]
        pytest.fail(f"{request.node.name} left behind: {'; '.join(left)}; this process's connections: {connections}",
                    pytrace=False)


@pytest.fixture
def python() -> list[str]:
    """The command line of this interpreter, for tests that start processes."""
    return [sys.executable]


@pytest.fixture
def no_descriptors() -> Iterator[Callable[[float], None]]:
    """A function that leaves this process without a free file descriptor for some seconds, the test's time at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    timers: list[threading.Timer] = []

    def release() -> None:
        while held:
            os.close(held.pop())

    def exhaust(seconds: float) -> None:
        timers.append(threading.Timer(seconds, release))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        timers[-1].start()

    yield exhaust
    for timer in timers:
        timer.cancel()
        if timer.is_alive():
            timer.join()
    release()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def room() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """``with room(most)``: no file of this process grows beyond so many bytes; like a full disk, it takes a part.

    The limit ends within the test: pytest itself may write to a file.
    """
    @contextlib.contextmanager
    def limited(most: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
