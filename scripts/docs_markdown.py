"""Markdown for the generated pages: tables, code, and docstrings as prose."""

from __future__ import annotations

import re
from collections.abc import Sequence


def cell(text: str) -> str:
    """Return text that may stand in a cell of a table."""
    text = " ".join(str(text).split()).replace("|", "\\|")
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\[\]*_])", r"\\\1", part.replace("<", "&lt;"))
                   for part in parts)


def code(text: str) -> str:
    """Return text as code that may stand in a cell of a table."""
    return "`" + " ".join(str(text).split()).replace("|", "\\|").replace("`", "'") + "`"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def prose(docstring: str) -> str:
    """Return a docstring as Markdown: ``code`` as `code`, and a literal block after ``::`` as a fenced one."""
    lines: list[str] = []
    literal = False
    for line in docstring.splitlines():
        if literal and line.strip() and not line.startswith(" "):
            while not lines[-1].strip():
                lines.pop()
            lines += ["```", ""]
            literal = False
        if literal:
            if line.strip() or lines[-1] != "```text":
                lines.append(line.replace("``", ""))
        elif line.endswith("::"):
            lines += [plain(line[:-1]), "", "```text"]
            literal = True
        else:
            lines.append(plain(line))
    return "\n".join(lines + ["```"] * literal)


def plain(text: str) -> str:
    """Return a line of a docstring as Markdown."""
    parts = re.split(r"``(.+?)``", text)
    return "".join(f"`{part}`" if number % 2 else re.sub(r"([*_<])", r"\\\1", part)
                   for number, part in enumerate(parts))
