"""The tables of a grid as files: CSV, Parquet where pyarrow is installed, and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2pser.base.atomic import put
from p2pser.base.frames import to_csv
from p2pser.experiments.grid.cells import Place
from p2pser.experiments.grid.summary import SchemeFigures, Summary, contrast_rows
from p2pser.experiments.grid.ties import Contrast

Rows = Sequence[Mapping[str, Any]]

HEAD = ("scheme", "UAR", "to pooled", "to pooled-steps", "over local", "worst peer", "MB/peer", "seconds", "rounds", "")
"""The head of the table for readers."""


def write(summary: Summary, out: Path) -> list[str]:
    """Write the tables into a folder; return the files' names. Raises OSError."""
    tables = {"trials": summary.tables.trials, "rounds": summary.tables.rounds, "peers": summary.tables.peers,
              "summary": [each.to_row() for each in summary.figures], "differences": difference_dicts(summary)}
    written = []
    for name, rows in tables.items():
        files = {f"{name}.csv": to_csv(rows).encode()}
        if (parquet := to_parquet(rows)) is not None and rows:
            files[f"{name}.parquet"] = parquet
        if name == "summary":
            files[f"{name}.tex"] = to_latex(HEAD, text_rows(summary)).encode()
        if name == "differences":
            files[f"{name}.tex"] = to_latex(
                ("place", "scheme", "minus", "points", "95 %", "p (Holm)"), difference_rows(summary)).encode()
        for file, content in files.items():
            put(out / file, content)
        written += list(files)
    return written


def to_parquet(rows: Rows) -> bytes | None:
    """Return rows as a Parquet file; None without pyarrow (the extra ``frames``)."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    sink = pyarrow.BufferOutputStream()
    columns = dict.fromkeys(name for row in rows for name in row)
    pyarrow.parquet.write_table(pyarrow.table({name: [row.get(name) for row in rows] for name in columns}), sink)
    return bytes(sink.getvalue())


SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
           "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$"}
"""Characters that LaTeX takes for its own."""


def to_latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the LaTeX package booktabs: the first column to the left, the others to the right."""
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(SPECIAL.get(letter, letter) for letter in cell) for cell in cells) + r" \\"

    body = "\n".join(line(row) for row in rows)
    return (f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\toprule\n{line(head)}\n\\midrule\n{body}\n"
            "\\bottomrule\n\\end{tabular}\n")


def points(difference: Contrast | None) -> str:
    """Return a paired difference in points of UAR, with its interval where there is one."""
    if difference is None:
        return "–"
    low, high = difference.low, difference.high
    interval = "" if low is None or high is None else f" [{signed(low)}, {signed(high)}]"
    return signed(difference.mean) + interval


def signed(share: float) -> str:
    """Return a share as points with a sign: ``−2.1``."""
    return f"{100 * share:+.1f}".replace("-", "−")


def text_rows(summary: Summary, place: Place | None = None) -> list[tuple[str, ...]]:
    """Return the table for readers under ``HEAD``, a row a scheme and baseline: of a place, or of all in turn."""
    several = place is None and len(summary.places) > 1
    names = short_names(each.scheme for each in summary.figures)
    rows: list[tuple[str, ...]] = []
    for each in summary.figures:
        if place in (None, each.place):
            name = names[each.scheme]
            rows.append((f"{each.place}: {name}" if several else name, *_cells(each)))
    return rows


def short_names(schemes: Iterable[str]) -> dict[str, str]:
    """Return the name of each scheme without its settings, where that leaves all names different."""
    schemes = list(dict.fromkeys(schemes))
    short = [scheme.partition(":")[0] for scheme in schemes]
    return {scheme: name if short.count(name) == 1 else scheme for scheme, name in zip(schemes, short)}


def shown(value: float | None, form: str, scale: float = 1.0) -> str:
    """Return a number times ``scale`` in a format; a dash for None."""
    return "–" if value is None else format(value * scale, form)


def _cells(each: SchemeFigures) -> tuple[str, ...]:
    return (f"{each.uar:.3f}", points(each.gap_to_pooled), points(each.gap_to_pooled_steps),
            points(each.gain_over_local),
            shown(each.uar_worst_peer, ".3f"), shown(each.bytes_per_peer, ".1f", 1e-6), shown(each.seconds, ".0f"),
            "–" if each.rounds_to_target is None else str(each.rounds_to_target), each.standing or "")


def difference_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Return the paired differences for readers, each pair once."""
    rows: list[tuple[str, ...]] = []
    for row in difference_dicts(summary):
        interval = "–" if row["low"] is None else f"[{signed(row['low'])}, {signed(row['high'])}]"
        where = f"{row['corpus']}, {row['partition']}, {row['peers']}, {row['fault']}"
        rows.append((where, row["ours"], row["theirs"], signed(row["mean"]), interval, f"{row['holm']:.3f}"))
    return rows


def difference_dicts(summary: Summary) -> list[dict[str, Any]]:
    """Return the paired differences as plain data, each pair once."""
    return contrast_rows({place: summary.contrasts(place) for place in summary.places})
