"""A hook of mkdocs (``mkdocs.yml``): the pages of the documentation that are made from the source.

Settings, commands, errors, the wire format and the algorithms are read from the code at build time, so that they cannot
disagree with it. README, CONTRIBUTING, CHANGELOG and SECURITY become pages too.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docs_markdown import cell, code, plain, prose, table

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
             "SECURITY.md": "security-policy.md"}
"""Files of the project's root -> the pages that they become."""


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages (called by mkdocs)."""
    from mkdocs.structure.files import File

    for name, page in TOP_LEVEL.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=from_root(text)))
    for page, make in PAGES.items():
        files.append(File.generated(config, page, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links from a page to files of the project's root into links to their pages (called by mkdocs)."""
    up = "../" * page.file.src_uri.count("/")
    for name, target in TOP_LEVEL.items():
        markdown = markdown.replace(f"]({up}../{name}", f"]({up}{target}")
    return re.sub(rf"\[([^\]]+)\]\({re.escape(up)}\.\./(?!\.)[^)]*\)", r"`\1`", markdown)


def from_root(text: str) -> str:
    """Return a file of the project's root with links that hold inside ``docs/``."""
    text = re.sub(r"\]\(docs/", "](", text)
    for name, target in TOP_LEVEL.items():
        text = text.replace(f"]({name}", f"]({target}")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*(?<!\.md)(?<!\.png)\)(?!\.md)", keep_pages, text)


def keep_pages(match: re.Match[str]) -> str:
    """Return a link as it is where it leads to a page or a heading, else its text as code."""
    return match[0] if re.search(r"\.(md|png)(#[^)]*)?\)$", match[0]) else f"`{match[1]}`"


# --- settings -------------------------------------------------------------------------------------------------------

def settings() -> str:
    """Return the page of all settings with default, allowed values, unit and meaning."""
    from p2pser.config import Config, describe

    text = ("# Settings\n\nWrite a setting as `--set section.field=value`, in a run file (`--run`) under its section, "
            "or as `settings={\"section.field\": value}` in Python; a list as `a,b` or `[a, b]`. *Shared* settings "
            "must be equal on all peers. The default of some depends on the model family (`p2pser models NAME`). "
            "`p2pser settings` prints the same.\n")
    entries = describe()
    for section in [field for field in Config.model_fields if any(entry["section"] == field for entry in entries)]:
        about = first_paragraph(Config.model_fields[section].annotation)
        text += f"\n## {section}\n\n{about}\n\n" + settings_table([entry for entry in entries
                                                                   if entry["section"] == section])
    return text + "\n## The run itself\n\n" + settings_table([entry for entry in entries if not entry["section"]])


def settings_table(entries: list[dict[str, Any]]) -> str:
    """Return the table of one section's settings, and one of each algorithm's, family's or kind's own."""
    text = ""
    for owner, group in itertools.groupby(entries, lambda entry: entry["only_with"]):
        rows = [(f"`{entry['name']}`", f"{code(written(entry['default']))} {entry['unit']}".strip(),
                 cell(entry["takes"]), "yes" if entry["shared"] else "", cell(entry["meaning"])) for entry in group]
        text += f"\n### With `{owner}`\n\n" if owner else ""
        text += table(("setting", "default", "values", "shared", "meaning"), rows)
    return text


def written(value: Any) -> str:
    """Return a default as it is written in a run file."""
    import yaml

    return "none" if value is None else yaml.safe_dump(value, default_flow_style=True).strip().removesuffix(
        "...").strip()


def first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


# --- commands -------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of all commands with their options."""
    import click

    from p2pser.cli.main import cli

    text = ("# Commands\n\nResults go to standard output, progress and notes to standard error. `--json` prints one "
            "JSON document. [Exit codes](errors.md) are the same everywhere.\n")
    for context, command in walk(cli, click.Context(cli, info_name="p2pser")):
        if isinstance(command, click.Group):
            continue
        text += f"\n## {context.command_path}\n\n{command_help(command)}\n\n"
        usage = " ".join(command.collect_usage_pieces(context))
        text += f"```text\n{context.command_path} {usage}\n```\n\n"
        records = [record for parameter in command.get_params(context)
                   if (record := parameter.get_help_record(context))]
        text += table(("option", "meaning"), [(code(name), cell(about)) for name, about in records])
    return text


def walk(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (context, command) of a command and all below it."""
    import click

    yield context, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, click.Context(below, info_name=name, parent=context))


def command_help(command: Any) -> str:
    """Return a command's help, its examples as code."""
    paragraphs = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        line = " ".join(paragraph.replace("\b", "").split())
        example = line.partition("Example: ")
        paragraphs.append(f"Example: `{example[2]}`" if not example[0] and example[2] else line.replace("<", "&lt;"))
    return "\n\n".join(paragraphs)


# --- errors ---------------------------------------------------------------------------------------------------------


def errors() -> str:
    """Return the page of exit codes, error classes and messages."""
    from p2pser.base import errors as module

    text = """# Exit codes and errors

| exit code | meaning |
|---|---|
| 0 | Done. Also: `p2pser peer` was interrupted (Ctrl-C, SIGTERM), and has left with a checkpoint. |
| 1 | The run failed for a reason that p2pser names. |
| 2 | The call, a setting, a file or a recording is wrong, or the peer was refused by all its neighbours. |
| 3 | Done, but not with every peer of the topology: "3 of 6 peers agreed". The model is there. |
| 130 | Another command was interrupted by Ctrl-C. |
| 143 | The command was ended by SIGTERM: `serve`, `watch`, or a peer that had not begun to read its recordings. |

An error is one sentence on standard error that says what is wrong, where, and what to do. In Python it is an exception;
all have the base class `p2pser.Error`. A traceback is a bug: please report it.

## Classes

"""
    classes: list[Any] = [kind for _, kind in inspect.getmembers(module, inspect.isclass)
                          if kind.__module__ == module.__name__]
    classes.sort(key=lambda kind: inspect.getsourcelines(kind)[1])
    base = {kind: " → ".join(each.__name__ for each in reversed(kind.__mro__) if each in classes) for kind in classes}
    text += table(("class", "exit code", "meaning"), [
        (f"`{base[kind]}`", str(kind.exit_code), cell(first_paragraph(kind))) for kind in classes])
    text += "\n## Messages\n\nRead from the source. `…` stands for a value of the call.\n"
    names = {kind.__name__ for kind in classes}
    for room in sorted(path for path in (ROOT / "p2pser").iterdir() if path.is_dir() and path.name[0] != "_"):
        rows = sorted({(name, message) for file in room.rglob("*.py") for name, message in messages(file, names)})
        if rows:
            text += f"\n### {room.name}\n\n" + table(("class", "message"), [
                (f"`{name}`", cell(message)) for name, message in rows])
    return text


def messages(file: Path, names: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (class, message) of the errors that a file raises with a text."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name) \
                and node.exc.func.id in names and node.exc.args:
            message = template(node.exc.args[0]).strip()
            if len(message) > 10:
                yield node.exc.func.id, message


def template(node: ast.expr) -> str:
    """Return the text that an expression makes, each part that is only known later as ``…``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    return "…"


# --- wire format ----------------------------------------------------------------------------------------------------


def wire() -> str:
    """Return the page of the wire format, its example messages made by the code that sends them."""
    from p2pser.wire import messages as module

    version = f"{module.MAJOR}.{module.MINOR}"
    text = f"""# Wire format

Protocol {version}. Peers talk over ZeroMQ (DEALER to ROUTER, CURVE); a message of p2pser is one ZeroMQ frame:

```text
u16 little-endian header length | header: a msgpack array | payload
```

The header has at most {module.MAX_HEADER} bytes and the payload at most {module.MAX_PAYLOAD}. A larger payload travels
in several messages (chunks) whose headers differ in `start` only. A message that does not fit this page
exactly is refused: unknown fields, other types and values out of range included. Nothing is unpickled.

## Kinds of messages

"""
    kinds = next(value for name, value in vars(module).items() if name.endswith("Kind"))
    about = {
        "HELLO": "The first message both ways: version, settings, topology, model, labels. Body: a msgpack map.",
        "WELCOME": "The answer to a HELLO that fits. Body: as HELLO.",
        "REFUSED": "The answer to a HELLO that does not fit, with the reason. Body: `{reason: text}`.",
        "ROW": "A row of parameters, or a part of one, of the exchange (`round`, `slot`).",
        "CREDIT": "How many payload bytes the receiver has consumed in total; the sender stays within its credit.",
        "PING": "Asks for a PONG; `slot` is a nonce.",
        "PONG": "Answers a PING, or reports progress.",
        "BYE": "The sender has finished; it is answered.",
    }
    text += table(("number", "kind", "meaning"), [(str(int(kind)), f"`{kind.name}`", about.get(kind.name, ""))
                                                  for kind in kinds])
    text += "\n## Header\n\nThe array begins with the protocol's version (major, minor). Then, in this order:\n\n"
    rows = []
    for name, kind, least, most in module._FIELDS:
        size = f"{least} to {most}" if kind is int else f"length {least} to {most}"
        rows.append((f"`{name}`", kind.__name__, size))
    text += table(("field", "type", "range"), rows)
    text += f"\n{field_notes(module.Header)}\n{bodies()}\n## Examples\n"
    return text + "".join(examples(module, kinds))


def field_notes(header: type) -> str:
    """Return what the source says below the header's fields, as a list."""
    from p2pser.base.parameters import texts_below

    notes = texts_below(header)
    return "".join(f"- `{name}`: {plain(note)}\n" for name, note in notes.items())


def neighbour_table() -> str:
    """Return the table of a neighbour's states and events, as docs/design.md has it (a test compares them)."""
    from p2pser.network.states import TABLE, Cause, State

    text = "| event | " + " | ".join(state.value for state in State) + " |\n" + "|---" * (len(State) + 1) + "|\n"
    for cause in Cause:
        cells = []
        for state in State:
            after = TABLE[state].get(cause)
            cells.append("" if after is None else after.value.upper() if isinstance(after, State) else
                         f"{after.before.value.upper()} / {after.during.value.upper()}")
        text += f"| {cause.value} | " + " | ".join(cells) + " |\n"
    return text


def bodies() -> str:
    """Return what the payloads of HELLO and of ROW hold."""
    import dataclasses

    from p2pser.base.registries import COMPRESSORS
    from p2pser.wire.codec import WIRE_DTYPES
    from p2pser.wire.hello import Hello

    fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(Hello))
    dense = ", ".join(f"`{name}`" for name in WIRE_DTYPES)
    other = ", ".join(f"`{name}`" for name in COMPRESSORS if name != "dense")
    return (f"The body of HELLO and WELCOME is a msgpack map with {fields}.\n\nThe payload of a ROW is one flat "
            f"little-endian buffer in the form that `codec` names: dense ({dense}) or compressed ({other}).\n")


def examples(module: Any, kinds: Any) -> Iterator[str]:
    """Yield example messages in bytes, as the code encodes them."""
    import torch

    from p2pser.wire.codec import DENSE

    progress = module.Progress(round=7, slot=0, phase=int(module.Phase.EXCHANGE), local_step=5)
    common: dict[str, Any] = {"run": bytes.fromhex("8f3a5c10d2e4b697"), "sender": 3, "incarnation": 0,
                              "progress": progress}
    numbers = torch.tensor([1.0, -0.5, 0.25, 0.0])
    row = bytes(DENSE.encode(numbers))
    made: tuple[tuple[str, Any, dict[str, Any], bytes], ...] = (
        ("A PING", kinds.PING, {"slot": 42}, b""),
        ("A row of four float32 numbers (1, -0.5, 0.25, 0)", kinds.ROW,
         {"round": 7, "slot": 0, "codec": DENSE.wire_name(numbers), "schema": bytes.fromhex("8caa1aaf43f5bf05"),
          "size": 4, "total": len(row)}, row),
        ("A refusal", kinds.REFUSED, {}, module.encode_reason("training.lr differs: 0.05 here, 0.1 there")),
    )
    for title, kind, fields, payload in made:
        frame = module.encode(module.Header(kind=kind, **common, **fields), payload)
        header, back = module.decode(frame)
        assert bytes(back) == payload
        length = int.from_bytes(frame[:2], "little")
        parts = (("header length", frame[:2]), ("header", frame[2:2 + length]), ("payload", frame[2 + length:]))
        text = "\n".join(f"{name:14}{line}" for title_, data in parts for name, line in dump(title_, data))
        yield f"\n### {title}\n\n{len(frame)} bytes:\n\n```text\n{text}\n```\n\nDecoded: {code(repr(header))}\n"


def dump(title: str, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (title or nothing, sixteen bytes in hexadecimal)."""
    for start in range(0, len(data), 16):
        yield (title if start == 0 else ""), data[start : start + 16].hex(" ")


# --- API and algorithms ---------------------------------------------------------------------------------------------


def api() -> str:
    """Return the page of the public API: a directive for each public name."""
    import p2pser

    text = ("# Python API\n\nThis page is the public API. Everything else in the package is private and may change "
            "between versions without notice.\n")
    # What is called first, then what registers, then classes.
    for name in sorted(p2pser.__all__, key=lambda name: (name[0].isupper(), name.startswith("register_"), name)):
        if not name.startswith("__"):
            text += f"\n::: p2pser.{name}\n"
    text += "\n## What they return\n" + "".join(f"\n::: {name}\n" for name in RETURNED)
    text += "\n## For plug-ins\n\nThe guide is [Publish a plug-in](../guides/plugin.md). Most are names of p2pser.\n"
    return text + "".join(f"\n::: {name}\n" for name in BASE_CLASSES)


RETURNED = (
    "p2pser.inference.predictor.Predictor", "p2pser.inference.predictor.Prediction", "p2pser.graph.spec.Topology",
    "p2pser.features.federation.Federation", "p2pser.simulation.results.Simulation",
    "p2pser.experiments.compare.Comparison", "p2pser.experiments.crossval.CrossValidation",
    "p2pser.experiments.grid.comparison.GridComparison",
    "p2pser.peer.launch.Launch")
"""The classes of what public functions return."""


BASE_CLASSES = (
    "p2pser.gossip.mixer.Step", "p2pser.gossip.mixer.Mixer", "p2pser.gossip.mixer.Outbox", "p2pser.gossip.mixer.Inbox",
    "p2pser.gossip.algorithm.State", "p2pser.gossip.algorithm.Local", "p2pser.features.kind.FeatureKind",
    "p2pser.models.family.Family", "p2pser.corpora.adapter.Adapter", "p2pser.corpora.adapter.NamedClips",
    "p2pser.corpora.adapter.About", "p2pser.corpora.manifest.Clip", "p2pser.graph.schedule.Schedule",
    "p2pser.wire.codec.Form")
"""What plug-ins use or derive their classes from, beside ``p2pser.Algorithm``."""


def algorithms() -> str:
    """Return the page of the algorithms: update rule, hyper-parameters and the code of a round."""
    from p2pser.base.registries import ALGORITHMS
    from p2pser.gossip.algorithm import Algorithm
    from p2pser.gossip.registry import hyper_parameters

    text = ("# Algorithms beside their rules\n\nEach algorithm of `gossip.algorithm`: its update rule and assumptions "
            "from the docstring, and the code of one round. Rows `x` have shape (B, D): B is 1 in a peer's process and "
            "N in the simulator. `mixer.mix` replaces row i by the weighted mean of its neighbours' rows, "
            "Σ_j W_ij x_j.\n")
    for name, kind in ALGORITHMS.items():
        text += f"\n## {name}\n\n{prose(inspect.getdoc(kind) or '')}\n"
        rows = [(f"`gossip.parameters.{each['name']}`", code(each['default']), cell(each["about"]))
                for each in hyper_parameters(kind)]
        if rows:
            text += "\n" + table(("hyper-parameter", "default", "meaning"), rows)
        for method in METHODS:
            owner = next((base for base in kind.__mro__ if method in vars(base)), Algorithm)
            if owner.__name__ not in ("Algorithm", "Asynchronous"):
                text += f"\n```python\n{textwrap.dedent(inspect.getsource(vars(owner)[method]))}```\n"
    return text


METHODS = ("round", "combine", "train", "merge", "adopt", "trained", "ready", "open", "receive")
"""What of an algorithm is shown: its rounds; a robust rule; a server's and its clients' part; messages."""


PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings,
    "reference/commands.md": commands,
    "reference/errors.md": errors,
    "reference/wire.md": wire,
    "reference/api.md": api,
    "reference/algorithms.md": algorithms,
}
