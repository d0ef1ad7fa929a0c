"""All commands at once: an option means the same everywhere, lists have one form, errors and examples hold."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import recordings
import soundfile
from calls import begun, call, commands, furnish, nothing_long
from docs_pages import template

from p2pser.base.errors import ConfigError
from p2pser.base.wording import listed
from p2pser.cli.main import cli
from p2pser.config import Config
from p2pser.config.constraints import holds_list
from p2pser.corpora.adapters import emodb

ROOT = Path(__file__).parents[2]


ALL = dict(commands(cli))
OPTIONS = [(path, option) for path, command in ALL.items() for option in command.params
           if isinstance(option, click.Option) and not option.hidden]
OTHER_MEANING = {
    ("push", "--private"): "a repository that only its owner sees, as hubs name it",
    ("topology", "plot", "--out"): "the one file that the command writes",
}
"""Options that mean something else than the options of the same name elsewhere."""


def test_an_option_means_the_same_everywhere() -> None:
    texts: dict[str, set[str]] = defaultdict(set)
    for path, option in OPTIONS:
        if (*path, option.opts[0]) not in OTHER_MEANING:
            texts[option.opts[0]].add(re.sub(r"  \[default: .*", "", option.help or ""))
    assert {name: several for name, several in texts.items() if len({text[:4] for text in several}) > 1} == {}
    assert len([several for several in texts.values() if len(several) > 1]) < 22  # most have one text


def test_a_default_is_written_in_one_form() -> None:
    wrong = [(path, option.opts[0], option.help) for path, option in OPTIONS
             if not re.fullmatch(r"[A-Z][^\n]*\.(  \[default: [^\]]+\])?", option.help or "")
             or re.search(r"\bdefault(s to|:| is)|\(default", (option.help or "").partition("  [default: ")[0])]
    assert wrong == []


def test_an_old_spelling_is_refused_and_names_one_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    count = 0
    for path, command in ALL.items():
        for option in command.params:
            if isinstance(option, click.Option) and option.hidden and option.opts[0] != "--help":
                code, text = call(*path, option.opts[0], *([] if option.is_flag else ["7"]))
                match = re.search(r"Error: (--\S+) is now (--\S+): write ", text)
                assert (code, match and match[1]) == (2, option.opts[0]), text
                assert match is not None
                assert any(match[2] in (*other.opts, *other.secondary_opts) for other in command.params), text
                count += 1
    assert count >= 30


# -- lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "parts"), [
    ("a,b", ["a", "b"]), ("[a,b]", ["a", "b"]), (" [ a , b ] ", ["a", "b"]), ("a", ["a"]), ("[a]", ["a"]), ("", []),
    ("[]", []), ("a,,b,", ["a", "b"]), ("[1,2],[3]", ["[1,2]", "[3]"]), ("[x:y=[1,2],z]", ["x:y=[1,2]", "z"]),
    ("x:y=[1,2],z", ["x:y=[1,2]", "z"])])
def test_a_list_has_brackets_or_none(text: str, parts: list[str]) -> None:
    assert listed(text) == parts


def test_the_command_line_splits_lists_in_one_way() -> None:
    files = [*(ROOT / "p2pser" / "cli").glob("*.py"), *(ROOT / "p2pser" / "config").glob("*.py")]
    assert [path.name for path in files if re.search(r"split\(['\"],['\"]\)", path.read_text(encoding="utf-8"))] == []


LISTS = sorted(f"{section}.{name}" for section, field in Config.model_fields.items()
               for name, own in getattr(field.annotation, "model_fields", {}).items()
               if holds_list(own) or name in ("map", "width"))
VALUES = ("anger,joy", "64,32", "0.25*2,1", "0.5,1", "calm=neutral,fear=anger")


@pytest.mark.parametrize("name", LISTS)
def test_a_setting_that_is_a_list_takes_both_forms(name: str) -> None:
    def made(text: str) -> object:
        try:
            config = Config().with_settings([f"{name}={text}"])
        except ConfigError:
            return None
        return getattr(getattr(config, name.partition(".")[0]), name.partition(".")[2])

    plain, bracketed = next((read, made(f"[{text}]")) for text in VALUES if (read := made(text)) is not None)
    assert plain == bracketed


# -- errors --------------------------------------------------------------------------------------------------

ERRORS = {"UsageError", "BadParameter", "ConfigError", "CorpusError", "TopologyError", "ModelError", "P2PSERError",
          "CheckpointError", "ProtocolError", "RefusedError"}


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the message of each error that a file raises; each part that is known later is ``…``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            function = node.exc.func
            if getattr(function, "id", getattr(function, "attr", "")) in ERRORS:
                yield node.lineno, template(node.exc.args[0]).strip()


def test_a_message_is_one_sentence_and_the_command_line_says_what_to_do() -> None:
    found = [(path.relative_to(ROOT), line, message) for path in sorted((ROOT / "p2pser").rglob("*.py"))
             for line, message in messages(path)]
    assert [one for one in found if one[2].endswith(".") or re.search(r"[.!?] [A-Z]", one[2])] == []
    # An unknown part at the end may be the proposal of another name.
    assert [one for one in found if one[0].parts[1] == "cli" and not re.search("[:;]", one[2])
            and not one[2].endswith("…")] == []
    assert len(found) > 300


# -- examples ------------------------------------------------------------------------------------------------


def examples() -> list[tuple[str, ...]]:
    """Return the words of each ``p2pser`` call in the examples of all commands."""
    calls = [shlex.split(part.strip()) for command in ALL.values()
             for paragraph in (command.help or "").split("\n\n") if paragraph.strip().startswith("Example: ")
             for part in " ".join(paragraph.split()).removeprefix("Example: ").split(" | ")]
    return list(dict.fromkeys(tuple(words[1:]) for words in calls if words[0] == "p2pser"))


def tone(path: Path, pitch: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * np.arange(8000) / 16000), 16000)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the examples name."""
    folder = furnish(tmp_path_factory.mktemp("examples"))
    run = recordings.write(folder / "runs" / "demo", [(i, (i + 1) % 4) for i in range(4)])
    shutil.move(folder / "model", run / "peer-3" / "model")
    shutil.copy(folder / "clips" / "anger" / "a0.wav", folder / "clip.wav")
    for number, speaker in enumerate(("ann", "ben", "cat")):
        for emotion in ("anger", "neutral", "sadness"):
            tone(folder / "my-clips" / emotion / speaker / "1.wav", 200 + 20 * number + len(emotion))
    for number, speaker in enumerate(emodb.GENDERS):
        for code in "WFTN":
            tone(folder / "emodb" / f"{speaker}a01{code}a.wav", 150 + 10 * number + ord(code))
    for actor in range(1, 7):
        for code in ("01", "02", "03", "04", "05"):
            tone(folder / "ravdess" / f"03-01-{code}-01-01-01-{actor:02}.wav", 150 + 10 * actor + int(code))
    (folder / "grid.yaml").write_text("topologies: [ring, complete]\npeers: [4]\ncorpora: {synthetic: null}\n")
    (folder / "theirs").mkdir()
    (folder / "theirs" / "dfedavg.json").write_text("{}")
    (folder / "runs" / "bench").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = [call("invite", "--sites", "berlin,lyon,porto", "--rounds", "40", "--name", "pilot")]
        shutil.copy("pilot/invitation-1.yaml", ".")
        for peer in range(3):
            made.append(call("accept", f"pilot/invitation-{peer}.yaml", "--data", "my-clips/", "--address",
                             f"tcp://192.0.2.{peer + 1}:5700", "--out", f"site-{peer}"))
            shutil.copy(f"site-{peer}/reply.yaml", f"reply-{peer}.yaml")
        made.append(call("topology", "assemble", "pilot", *(f"reply-{peer}.yaml" for peer in range(3))))
        assert [code for code, _ in made] == [0] * 5, made
    return folder


BEGINS = (
    "p2pser.corpora.fetch.source_of", "p2pser.inference.hub.push", "p2pser.inference.hub.pull", "p2pser.serve.run.run",
    "p2pser.cli.listen._microphone", "p2pser.cli.listen._standard_input", "p2pser.cli.watch._page",
    "p2pser.cli.predict._given", "p2pser.models.export.export", "p2pser.models.export.export_light",
    "p2pser.experiments.costs.costs", "p2pser.experiments.bench.clips.require_same",
    "p2pser.experiments.bench.ranking.read", "p2pser.experiments.grid.comparison.estimated",
    "p2pser.graph.summary.compare", "p2pser.graph.drawing.draw")
"""Where the long or the outer work of further commands begins."""


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_an_example_is_accepted(words: tuple[str, ...], place: Path, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_long(monkeypatch)
    for name in BEGINS:
        monkeypatch.setattr(name, begun)
    monkeypatch.chdir(tmp_path)
    for path in place.iterdir():
        if not (words[0] == "invite" and path.name == "pilot"):  # which the example makes
            (tmp_path / path.name).symlink_to(path)
    code, text = call(*words)
    assert code in (0, -1), text


def test_every_command_has_an_example_of_itself() -> None:
    calls = [" ".join(words) for words in examples()]
    assert [path for path, command in ALL.items() if path and not isinstance(command, click.Group)
            and not any(f"{text} ".startswith(f"{' '.join(path)} ") for text in calls)] == []
