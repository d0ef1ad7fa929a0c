"""Run the code blocks of one documentation page in the current folder: ``python run_page.py PAGE.md``.

- A block with ``title="NAME"`` is written to the file NAME, and not run.
- ``python`` blocks run in order, in one module per page.
- In ``console`` blocks the lines that begin with ``$`` run, ``p2pser`` commands inside this process. A command that
  ends with ``&`` runs beside the next ones, and must have ended well at the end of its block.
- ``<!-- not run: REASON -->`` before a block leaves it out; ``<!-- exit CODE -->`` expects a code other than 0.
- ``<!-- free port: NUMBER -->`` puts a free port (and the next one) in the place of NUMBER, as other jobs may use it.
- Other blocks (sh, text, yaml without a title, mermaid) are not run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<notes>(?:[ ]*<!--[^\n]*-->\n)*)(?P<indent>[ ]*)```(?P<language>\w+)(?P<options>[^\n]*)\n"
    r"(?P<text>.*?)\n(?P=indent)```$", re.M | re.S)
NOTE = re.compile(r"<!--\s*(.*?)\s*-->")
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and what the comments before it say."""

    line: int
    language: str
    title: str | None
    text: str
    notes: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether the block is executed or written."""
        return not any(note.startswith("not run:") for note in self.notes)

    @property
    def exit_code(self) -> int:
        """The exit code that its commands must end with."""
        return next((int(note.split()[1]) for note in self.notes if note.startswith("exit ")), 0)

    def with_free_port(self) -> str:
        """Return the text with a free port in the place of the one that its note names."""
        port = next((note.removeprefix("free port: ") for note in self.notes if note.startswith("free port: ")), None)
        if port is None:
            return self.text
        from p2pser.peer.launch import free_base_port

        return self.text.replace(port, str(free_base_port(2)))

    def commands(self) -> Iterator[str]:
        """Yield the commands of a console block; a backslash at a line's end continues it."""
        lines = iter(self.with_free_port().splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line[2:]
                while command.endswith("\\"):
                    command = command[:-1] + next(lines).strip()
                yield command


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    result = []
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        title = TITLE.search(match["options"])
        body = "\n".join(line[indent:] for line in match["text"].splitlines())
        result.append(Block(text.count("\n", 0, match.start("indent")) + 1, match["language"], title and title[1], body,
                            tuple(NOTE.findall(match["notes"]))))
    return result


def run_in_process(arguments: list[str]) -> int:
    """Run a ``p2pser`` command in this process, which has imported all it needs; return its exit code."""
    from p2pser.cli.main import main

    sys.argv = ["p2pser", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def run_console(block: Block) -> None:
    """Run the commands of a console block; raise where one ends with another code than expected."""
    beside: list[tuple[str, subprocess.Popen[bytes]]] = []
    try:
        for command in block.commands():
            if command.endswith("&"):
                beside.append((command, subprocess.Popen(["bash", "-c", f"exec {command[:-1]}"])))
                continue
            words = shlex.split(command, comments=True)
            shell = any(sign in command for sign in "|>;") or words[0] != "p2pser"
            code = subprocess.run(["bash", "-c", command]).returncode if shell else run_in_process(words[1:])
            expect(code, block, command)
        for command, process in beside:
            expect(process.wait(timeout=240), block, command)
    finally:
        for _, process in beside:
            process.kill()
            process.wait()


def expect(code: int, block: Block, command: str) -> None:
    """Raise where a command ended with another code than its block expects."""
    if code != block.exit_code:
        raise RuntimeError(f"line {block.line}: {command!r} ended with exit code {code}, not {block.exit_code}")


def run(page: Path) -> None:
    """Run all blocks of a page; shells find this interpreter's ``p2pser`` first."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    module = types.ModuleType("page")
    sys.modules["page"] = module
    for block in blocks(page):
        if not block.runs:
            continue
        start = time.monotonic()
        if block.title is not None:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "python":
            code = compile("\n" * block.line + block.text, str(page), "exec")
            exec(code, vars(module))
        elif block.language == "console":
            run_console(block)
        print(f"[{page.name}:{block.line} {block.language} {time.monotonic() - start:.1f} s]", file=sys.stderr)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
