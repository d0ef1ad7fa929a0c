"""The page of a comparison: one HTML file with everything in it, which asks no other place for anything."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light; --ink: #24292f; --soft: #57606a; --line: #d8dee4; --paper: #ffffff; --wash: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial,
  sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .25rem; }
p, li { max-width: 50rem; }
nav ul { columns: 2 18rem; padding-left: 1.1rem; margin: .5rem 0; }
a { color: #0a5aa6; }
figure { margin: 1rem 0 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .92rem; max-width: 50rem; }
.files { font-size: .85rem; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { padding: .22rem .45rem; text-align: right; white-space: nowrap; }
th { border-bottom: 1.5px solid var(--ink); font-weight: 600; }
td { border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.note { background: var(--wash); border-left: 4px solid #d55e00; padding: .6rem 1rem; margin: 1rem 0; }
pre { background: var(--wash); padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
@media print { nav, .files { display: none; } figure, table { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    name : of its files, without the ending. title, caption : plain text. svg : the picture.
    """

    name: str
    title: str
    caption: str
    svg: bytes


@dataclass(frozen=True)
class Part:
    """A part of the page: a title, tables as (head, rows), and pictures."""

    title: str
    tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]] = ()
    pictures: Sequence[Picture] = ()
    text: Sequence[str] = ()


def page(title: str, lead: Sequence[str], warning: str, parts: Sequence[Part], files: Sequence[str], source: str
         ) -> str:
    """Return the page.

    Parameters
    ----------
    title : of the page.
    lead : its first paragraphs.
    warning : what a reader must know first; empty: nothing.
    parts : in order.
    files : names of the tables' files beside the page.
    source : the grid as a file.
    """
    contents = "".join(f'<li><a href="#part-{at}">{escape(part.title)}</a></li>' for at, part in enumerate(parts))
    body = "".join(_part(at, part) for at, part in enumerate(parts))
    links = ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in files)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        + (f'<p class="note">{escape(warning)}</p>\n' if warning else "")
        + "".join(f"<p>{escape(text)}</p>\n" for text in lead)
        + f"<nav><ul>{contents}</ul></nav>\n{body}"
        f'<h2>Files</h2>\n<p>Beside this page: {links}; each figure as SVG, PDF and PNG in figures/.</p>\n'
        f"<h2>The grid</h2>\n<pre>{escape(source)}</pre>\n</main>\n</body>\n</html>\n")


def _part(at: int, part: Part) -> str:
    return (f'<h2 id="part-{at}">{escape(part.title)}</h2>\n'
            + "".join(f"<p>{escape(text)}</p>\n" for text in part.text)
            + "".join(_table(*table) for table in part.tables) + "".join(map(_picture, part.pictures)))


def _picture(picture: Picture) -> str:
    """A figure. As data of an image its names cannot collide with those of the other figures."""
    data = base64.b64encode(picture.svg).decode()
    files = ", ".join(f'<a href="figures/{escape(picture.name)}.{ending}">{ending.upper()}</a>'
                      for ending in ("svg", "pdf", "png"))
    return (f'<h3 id="{escape(picture.name)}">{escape(picture.title)}</h3>\n<figure>\n'
            f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.title)}. {escape(picture.caption)}">\n'
            f'<figcaption>{escape(picture.caption)} <span class="files">{files}</span></figcaption>\n</figure>\n')


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>\n<thead>{line(head, "th")}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n'
