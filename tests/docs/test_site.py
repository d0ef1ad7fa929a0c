"""The documentation site builds without a warning, and its generated pages hold what the code has."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> Iterator[ModuleType]:
    """The module that generates pages, imported as mkdocs imports its hooks: from the folder of the scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("docs_pages")


def test_site_builds_strictly(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    build = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
                           cwd=ROOT, env=environment, text=True, capture_output=True)
    assert build.returncode == 0, build.stderr[-4000:]
    assert (tmp_path / "site" / "reference" / "settings" / "index.html").is_file()


def test_settings_name_default_limits_unit_and_meaning(pages: ModuleType) -> None:
    lines = pages.settings().splitlines()
    (line,) = [line for line in lines if line.startswith("| `network.dead_after`")]
    assert line == ("| `network.dead_after` | `8.0` s | a number above 0 and at most 2592000 |  | "
                    "silence after which a neighbour is DEAD, and left out until it returns |")
    (line,) = [line for line in lines if line.startswith("| `training.local_steps`")]
    assert line.split(" | ")[1:4] == ["`5`", "a whole number from 1 to 1000000000", "yes"]


def test_every_command_has_its_options(pages: ModuleType) -> None:
    text = pages.commands()
    for heading in ("## p2pser peer\n", "## p2pser topology show\n", "## p2pser corpus split\n"):
        assert heading in text
    peer = text[text.index("## p2pser peer\n"):text.index("## p2pser demo\n")]
    assert "| `--id INTEGER RANGE` |" in peer


def test_example_messages_decode(pages: ModuleType) -> None:
    from p2pser.wire import messages

    text = pages.wire()
    ping = text[text.index("### A PING"):text.index("### A row")]
    lines = ping[ping.index("```text\n") + 8:ping.rindex("```")].splitlines()
    data = bytes.fromhex("".join(line[14:] for line in lines))
    header, payload = messages.decode(data)
    assert (header.sender, header.slot, bytes(payload)) == (3, 42, b"")
    assert header.kind.name == "PING"


def test_messages_are_read_from_the_source(pages: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text('raise ConfigError(f"--set {x!r}: write it as "\n                  "section.field=value")\n')
    assert list(pages.messages(source, {"ConfigError"})) == [
        ("ConfigError", "--set …: write it as section.field=value")]
    assert "| `ConfigError` | --set …: write it as section.field=value |" in pages.errors()


def test_algorithms_show_rule_and_code(pages: ModuleType) -> None:
    text = pages.algorithms()
    gossip = text[text.index("## k-gt\n"):]
    assert "c_i <-  c_i - z_i + sum_j W_ij z_j" in gossip
    assert "def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:" in gossip
    without = [section.partition("\n")[0] for section in text.split("\n## ")[1:] if "```python" not in section]
    assert without == []


def test_root_links_become_pages(pages: ModuleType) -> None:
    text = "[a](docs/guides/x.md) [b](CONTRIBUTING.md) [c](CITATION.cff) ![d](docs/run.png) [e](#limits) [f](https://x)"
    assert pages.from_root(text) == "[a](guides/x.md) [b](contributing.md) `c` ![d](run.png) [e](#limits) [f](https://x)"


def test_the_table_of_a_neighbours_states_is_the_codes(pages: ModuleType) -> None:
    """Where this fails, paste what ``neighbour_table`` of scripts/docs_pages.py returns."""
    assert pages.neighbour_table() in (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
