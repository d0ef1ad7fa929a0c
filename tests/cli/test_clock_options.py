"""The options of simulated time: lines, devices, single ways and churn, from texts and files."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from p2pser.base.errors import ConfigError
from p2pser.cli.clock import churn_of, clock_of
from p2pser.cli.clock_files import read_trace, read_ways
from p2pser.cli.main import cli
from p2pser.simulation.links import LINES


def written(folder: Path, text: str) -> Path:
    path = folder / "given.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_and_devices_hold_for_all_for_one_or_for_a_range(tmp_path: Path) -> None:
    ways = written(tmp_path, "from,to,latency_ms,mbit\n0,1,120,0.8\n")
    clock = clock_of("dsl,0:lan,3-5:4g", ways, "laptop,1:board", 0.1, {1: 2.0}, 7, 6)
    assert [clock.links.at(i) for i in range(6)] == [LINES[name] for name in ("lan", "dsl", "dsl", "4g", "4g", "4g")]
    assert clock.step_s == pytest.approx(0.2)
    assert (clock.slow, clock.seed) == ({1: pytest.approx(10.0)}, 7)
    # Given one way only, the links hold for both.
    assert [(clock.links.latency(*edge), clock.links.rate(*edge)) for edge in ((1, 0), (0, 1))] == [(0.12, 1e5)] * 2


def test_a_trace_and_a_rate_say_who_is_away(tmp_path: Path) -> None:
    trace = churn_of(str(written(tmp_path, "peer,leaves_s,returns_s\n2,10,20\n2,30,\n")), 0, 4)
    assert [trace.away(2, second) for second in (9, 10, 19.9, 20, 31, 1e9)] == [False, True, True, False, True, True]
    assert trace.gone == {2}
    assert not trace.away(1, 15)
    rate = churn_of("2:360", 3, 4)
    seconds = range(0, 360_000, 60)
    away = [rate.away(1, second) for second in seconds]
    # 30 minutes there, 6 away, on average.
    assert sum(away) / len(away) == pytest.approx(1 / 6, rel=0.35)
    backwards = churn_of("2:360", 3, 4)  # the order of questions changes no answer
    assert away == [backwards.away(1, second) for second in reversed(seconds)][::-1]
    assert away != [rate.away(0, second) for second in seconds]


@pytest.mark.parametrize(("text", "sentence"), [
    ("", "first line must be from,to,latency_ms,mbit"),
    ("from,to,latency_ms,mbit\n0,9,1,1", "line 2: '9' is not a peer: give a number from 0 to 3"),
    ("from,to,latency_ms,mbit\n0,1,nan,1", "latency_ms is 'nan'"),
    ("from,to,latency_ms,mbit\n0,1,1,0", "has the rate 0"),
    ("from,to,latency_ms,mbit\n0,1,1,1\n0,1,2,2", "line 3: the link from 0 to 1 is given twice"),
    ("from,to,latency_ms,mbit\n0,1,1", "each other line has 4 values"),
])
def test_a_bad_file_of_links_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_ways(written(tmp_path, text), 4)


@pytest.mark.parametrize(("text", "sentence"), [
    ("peer,leaves_s,returns_s\n1,5,2", "line 2: peer 1 leaves at 5 s"),
    ("peer,leaves_s,returns_s\n1,5,\n1,9,11", "line 3: peer 1 leaves at 9 s"),
    ("peer,leaves_s,returns_s\n-1,5,9", "'-1' is not a peer"),
    ("peer,leaves_s,returns_s\n1,soon,9", "leaves_s is 'soon'"),
])
def test_a_bad_trace_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_trace(written(tmp_path, text), 4)


def test_what_is_neither_file_nor_rate_and_peers_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    for text in ("often", "0", "2:0", str(tmp_path)):
        with pytest.raises(click.BadParameter, match="neither a file nor a rate"):
            churn_of(text, 0, 4)
    with pytest.raises(ConfigError, match="name peer 4, which does not exist: name peers from 0 to 3"):
        clock_of("lan,4:dsl", None, None, 0.1, {}, 0, 4)
    bad = written(tmp_path, "a,b\n")
    result = CliRunner().invoke(cli, ["plan", "--peers", "4", "--links", str(bad)])
    assert (type(result.exception), getattr(result.exception, "exit_code", 0)) == (ConfigError, 2)
