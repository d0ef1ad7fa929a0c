"""Key pairs, the user's secret, who is admitted, and the command that makes keys."""

from __future__ import annotations

import contextlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from p2pser.base.errors import ConfigError
from p2pser.cli.main import cli
from p2pser.network import keys
from p2pser.network.keys import KeyPair, Zap

SECRET = bytes(range(32))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "config" / "p2pser" / "secret"
    secret = keys.load_or_make_secret(path)
    assert len(secret) == 32
    assert keys.load_or_make_secret(path) == secret
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["secret"]


def test_the_default_secret_lies_in_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    secret = keys.load_or_make_secret()
    assert (tmp_path / "p2pser" / "secret").read_bytes() == secret
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys.default_secret_path() == tmp_path / ".config" / "p2pser" / "secret"


def test_peers_that_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: keys.load_or_make_secret(tmp_path / "secret"), range(32)))
    assert len(secrets) == 1


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    keys.load_or_make_secret(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        keys.load_or_make_secret(path)


def test_a_damaged_secret_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="5 bytes, not 32"):
        keys.load_or_make_secret(path)
    with pytest.raises(ConfigError, match=r"network\.secret"):
        keys.load_or_make_secret(path / "below a file")


def test_derived_keys_are_fixed_and_work() -> None:
    pair = keys.derive(SECRET, "run", 3)
    # Fixed for good: peers of two versions must derive the same.
    assert pair.public == "N(ejRmOcO5/gE:#loc1U[p=?tmpbqggG6)c:ghcL"
    assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    assert pair.secret not in repr(pair)


@given(st.binary(min_size=32, max_size=32), st.text(max_size=8), st.integers(0, 300))
def test_derived_keys_differ_by_secret_run_and_peer(secret: bytes, run: str, peer: int) -> None:
    pairs = {
        keys.derive(secret, run, peer).public,
        keys.derive(secret, run, peer + 1).public,
        keys.derive(secret, run + "\0", peer).public,
        keys.derive(bytes([secret[0] ^ 1]) + secret[1:], run, peer).public,
    }
    assert len(pairs) == 4


def test_key_files_come_back_and_are_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "peer-3.key"
    pair = keys.make()
    keys.write_key_pair(path, pair)
    assert mode(path) == 0o600
    assert keys.read_secret_key(path) == pair
    with pytest.raises(ConfigError, match="exists"):
        keys.write_key_pair(path, keys.make())
    assert keys.read_secret_key(path) == pair


@pytest.mark.parametrize("number", range(20))
def test_any_key_survives_its_file(number: int, tmp_path: Path) -> None:
    # Z85 has #, :, { and their like: none may be taken for syntax.
    pair = keys.derive(SECRET, "files", number)
    keys.write_key_pair(tmp_path / "pair", pair)
    assert keys.read_secret_key(tmp_path / "pair") == pair
    (tmp_path / "alone").write_text(f"{pair.secret}\n")
    (tmp_path / "alone").chmod(0o600)
    assert keys.read_secret_key(tmp_path / "alone") == pair


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no secret key"),
        ("hello\n", "no secret key"),
        ('secret: "short"\n', "no secret key"),
        (f'secret: "{"~" * 40}"\n', "no secret key"),
        (f'public: "{"0" * 40}"\n', "no secret key"),
        (f'public: "{"0" * 40}"\nsecret: "{z85.encode(SECRET).decode()}"\n', "not a pair"),
        ("\xff" * 40, "no secret key"),
        ("#" * 40, "no secret key"),
    ],
)
def test_other_files_are_no_keys(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "file.key"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=says):
        keys.read_secret_key(path)


def test_key_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "peer-3.key"
    with pytest.raises(ConfigError, match="p2pser keys"):
        keys.read_secret_key(path)
    keys.write_key_pair(path, keys.make())
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="chmod 600"):
        keys.read_secret_key(path)


def request(pair: KeyPair, mechanism: bytes = b"CURVE") -> list[bytes]:
    return [b"1.0", b"7", b"p2pser", b"192.0.2.1", b"", mechanism, z85.decode(pair.public)]


PAIRS = [keys.derive(SECRET, "zap", peer) for peer in range(4)]


def test_neighbours_are_admitted_under_their_id() -> None:
    zap = Zap({PAIRS[1].public: 1, PAIRS[3].public: 3})
    assert zap.reply(request(PAIRS[3])) == [b"1.0", b"7", b"200", b"OK", b"3", b""]
    envelope = [b"\0abcd", b""]
    assert zap.reply([*envelope, *request(PAIRS[1])]) == [*envelope, b"1.0", b"7", b"200", b"OK", b"1", b""]
    assert zap.refusals() == []


@pytest.mark.parametrize(("theirs", "ours", "older"), [
    (0, 1, True), (1, 1, False), (1, 2, True), (2, 2, False), (0, 0, False), (1, 0, False)])
def test_a_refusal_says_whether_the_listener_may_have_an_older_topology_file(theirs: int, ours: int,
                                                                            older: bool) -> None:
    reply = Zap({PAIRS[1].public: 1}, epoch=theirs).reply(request(PAIRS[2]))
    assert reply is not None
    assert keys.may_be_older(ours, int(reply[2])) is older


def test_others_are_refused_and_told_of_once() -> None:
    zap = Zap({PAIRS[1].public: 1})
    for _ in range(3):
        reply = zap.reply(request(PAIRS[2]))
        assert reply is not None
        assert reply[:3] == [b"1.0", b"7", b"400"]
        assert reply[3]
        assert reply[4:] == [b"", b""]
    (sentence,) = zap.refusals()
    assert PAIRS[2].public in sentence
    assert "192.0.2.1" in sentence
    assert zap.refusals() == []
    assert zap.refused == {PAIRS[2].public}


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(request(PAIRS[1], b"PLAIN"), id="other mechanism"),
        pytest.param(request(PAIRS[1])[:6], id="no key"),
        pytest.param([*request(PAIRS[1]), b"more"], id="two keys"),
        pytest.param([*request(PAIRS[1])[:6], bytes(31)], id="short key"),
    ],
)
def test_other_credentials_are_refused(frames: list[bytes]) -> None:
    zap = Zap({PAIRS[1].public: 1})
    reply = zap.reply(frames)
    assert reply is not None
    assert reply[2] == b"400"
    assert len(zap.refusals()) == 1


@pytest.mark.parametrize("frames", [[], [b""], [b"id", b""], [b"2.0", *request(PAIRS[1])[1:]], request(PAIRS[1])[:5]])
def test_what_is_no_request_gets_no_reply(frames: list[bytes]) -> None:
    assert Zap({PAIRS[1].public: 1}).reply(frames) is None


def test_memory_of_refusals_is_bounded() -> None:
    zap = Zap({})
    for number in range(2 * keys.MAX_REFUSALS):
        zap.reply([*request(PAIRS[0])[:6], number.to_bytes(32, "little")])
    assert len(zap.refused) == keys.MAX_REFUSALS
    assert len(zap.refusals()) == keys.MAX_REFUSALS


def test_libzmq_takes_the_answers() -> None:
    """A real handshake: who is admitted speaks under his id, who is not gets nowhere."""
    server, friend, stranger = PAIRS[:3]
    zap = Zap({friend.public: 1})
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        handler, listener = (stack.enter_context(context.socket(zmq.ROUTER)) for _ in range(2))
        handler.bind("inproc://zeromq.zap.01")
        listener.curve_server = True
        listener.curve_publickey, listener.curve_secretkey = server.public.encode(), server.secret.encode()
        port = listener.bind_to_random_port("tcp://127.0.0.1")
        for pair in (stranger, friend):
            dealer = stack.enter_context(context.socket(zmq.DEALER))
            dealer.linger = 0
            dealer.curve_serverkey = server.public.encode()
            dealer.curve_publickey, dealer.curve_secretkey = pair.public.encode(), pair.secret.encode()
            dealer.connect(f"tcp://127.0.0.1:{port}")
            dealer.send(pair.public.encode())
        answered = 0
        got = []
        poller = zmq.Poller()
        poller.register(handler, zmq.POLLIN)
        poller.register(listener, zmq.POLLIN)
        while answered < 2 or not got:
            ready = dict(poller.poll(60_000))
            assert ready, "no connection came within a minute"
            if handler in ready:
                reply = zap.reply(handler.recv_multipart())
                assert reply is not None
                handler.send_multipart(reply)
                answered += 1
            if listener in ready:
                got.append(listener.recv_multipart(copy=False)[1])
    assert [(frame["User-Id"], frame.bytes) for frame in got] == [("1", friend.public.encode())]
    assert stranger.public in zap.refusals()[0]


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["keys", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_command_makes_the_keys_of_one_peer(tmp_path: Path) -> None:
    code, out = call("--out", str(tmp_path / "keys"), "--id", "3")
    pair = keys.read_secret_key(tmp_path / "keys" / "peer-3.key")
    assert code == 0
    assert out == f'key: "{pair.public}"\n'


def test_the_command_makes_the_keys_of_all_peers(tmp_path: Path) -> None:
    code, out = call("--out", str(tmp_path), "--peers", "3", "--json")
    made = json.loads(out)["keys"]
    assert code == 0
    assert [one["peer"] for one in made] == [0, 1, 2]
    for one in made:
        assert keys.read_secret_key(Path(one["file"])).public == one["key"]
    assert len({one["key"] for one in made}) == 3


def test_the_command_replaces_nothing(tmp_path: Path) -> None:
    call("--out", str(tmp_path), "--id", "1")
    before = (tmp_path / "peer-1.key").read_bytes()
    with pytest.raises(ConfigError, match="remove it first"):
        call("--out", str(tmp_path), "--peers", "3")
    assert [one.name for one in tmp_path.iterdir()] == ["peer-1.key"]
    assert (tmp_path / "peer-1.key").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["--id", "1", "--peers", "2"], ["--id", "-1"], ["--peers", "0"]])
def test_the_command_says_what_it_needs(arguments: list[str]) -> None:
    assert call(*arguments)[0] == 2
