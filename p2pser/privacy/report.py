"""An audit as text, as a page that a data-protection officer can read, and as a picture."""

from __future__ import annotations

import html
import math
import stat
from pathlib import Path
from typing import Any

from p2pser.base.atomic import put, read_json, write_json
from p2pser.base.errors import ConfigError
from p2pser.base.wording import counted
from p2pser.experiments.report.canvas import new_figure, save
from p2pser.experiments.report.styles import COLOURS, FAINT, INK
from p2pser.models.directory import CARD, read_card
from p2pser.privacy.audit import Audit
from p2pser.privacy.findings import Finding

FILES = ("audit.html", "audit.png", "audit.json")
"""What ``write`` writes."""

HEAD = ("what", "attack", "from", "rounds", "measure", "found [95 %]", "chance", "limit", "")

MEANING = {
    "rows": "the parameters of how many other peers a neighbour holds, in part at least, or can compute exactly",
    "sums": "the sums of features of how many other peers a neighbour can compute exactly",
    "clip counts": "how many other peers' numbers of recordings a peer is sent",
    "sex": "whether the speakers of a given peer are women or men",
    "language": "the language that a given peer's speakers speak",
    "age": "the age group of a given peer's speakers",
    "speaker": "which of the known speakers a given peer has recordings of",
    "membership": "whether a given recording was trained on by a given peer, rather than by another",
    "membership in the run": "whether a given recording was trained on at all",
    "features": "the features of a given peer's recordings themselves",
    "labels": "which emotions a given peer's recordings show, and how often",
}
"""What each kind of finding is about, for a reader who knows no machine learning."""

MEASURES = {
    "other peers": "a number of peers",
    "UAR": "mean share of right answers over the groups",
    "top-1": "share of peers of which the named speaker was one of theirs",
    "AUC": "how often a recording that was trained on scores higher than one that was not",
    "TPR at 1 % FPR": "share of the recordings trained on that are found while 1 % of the others are taken for them",
    "cosine": "likeness of the features that were read off to those of the recordings trained on, at most 1; by chance "
              "to those of others",
    "correlation": "of estimated and true shares, each less the mean over the peers",
    "main emotion": "share of peers whose most frequent emotion was named",
}


def write(audit: Audit, folder: Path) -> None:
    """Write ``FILES`` into a folder; ConfigError where it cannot be written."""
    write_json(folder / "audit.json", audit.to_dict(), error=ConfigError)
    picture(audit, folder / "audit.png")
    try:
        put(folder / "audit.html", page(audit).encode())
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}; give another --out") from None


def for_card(audit: Audit) -> dict[str, Any]:
    """Return what the card of an audited model says: the verdict, and the largest figure of each kind with a limit."""
    largest: dict[str, Finding] = {}
    for finding in audit.findings:
        if finding.limit is not None and (finding.about not in largest or finding.value > largest[finding.about].value):
            largest[finding.about] = finding
    return {"verdict": verdict(audit), "passed": not audit.exceeded, "corpus": audit.corpus, "seeds": audit.seeds,
            "colluding": audit.colluding, "rejoins": audit.rejoins,
            "figures": [finding.to_dict() for finding in largest.values()]}


def into_card(audit: Audit, model: Path) -> None:
    """Write what an audit found into the card of a model directory.

    Raises ModelError where there is no card, ConfigError where the model was trained by another algorithm, on another
    topology or among another number of peers, or the card cannot be written.
    """
    trained = read_card(model)[0].training
    was = (trained.get("algorithm"), trained.get("topology"), trained.get("peers"))
    audited = (audit.config.gossip.algorithm, audit.topology.name, audit.topology.size)
    if was != audited:
        words = ["{} on {} with {} peers".format(*each) for each in (was, audited)]
        raise ConfigError(f"the model {model} was trained by {words[0]}, and the audit was of {words[1]}: audit the "
                          "settings of the model, or leave --card out")
    path = model / CARD
    mode = stat.S_IMODE(path.stat().st_mode)  # a peer's is readable for its user only
    write_json(path, {**(read_json(path, dict) or {}), "audit": for_card(audit)}, mode=mode, error=ConfigError)


def verdict(audit: Audit) -> str:
    """Return the audit's result in a sentence."""
    who = "one neighbour" if audit.colluding == 1 else f"{audit.colluding} neighbours together"
    who += ", sent the run's state anew," if audit.rejoins else ""
    what = f"{audit.config.gossip.algorithm} on {audit.topology.name} with {audit.topology.size} peers"
    if not audit.exceeded:
        return f"Passed: with {what}, {who} learned no more than the limits allow."
    about = list(dict.fromkeys(finding.about for finding in audit.exceeded))
    return f"Not passed: with {what}, {who} learned more than the limits allow of {', '.join(about)}."


def text_rows(audit: Audit) -> list[tuple[str, ...]]:
    """Return the rows of the table, below ``HEAD``."""
    return [(finding.about, finding.attack, finding.seen, "" if finding.rounds is None else str(finding.rounds),
             finding.measure, _value(finding), _number(finding, finding.chance),
             "" if finding.limit is None else _number(finding, finding.limit), finding.verdict)
            for finding in audit.findings]


def _value(finding: Finding) -> str:
    value = _number(finding, finding.value)
    if math.isnan(finding.low):
        return f"{value} of {finding.targets}" if finding.measure == "other peers" else value
    return f"{value} [{finding.low:.2f} {finding.high:.2f}]"


def _number(finding: Finding, value: float) -> str:
    return f"{value:.0f}" if finding.measure == "other peers" else f"{value:.2f}"


def page(audit: Audit) -> str:
    """Return the page, HTML that names ``audit.png`` beside it and nothing else."""
    shown = list(dict.fromkeys(finding.about for finding in audit.findings))
    measures = list(dict.fromkeys(finding.measure for finding in audit.findings))
    rows = "\n".join(
        f"<tr class='{'over' if finding.exceeded else ''}'>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for finding, cells in zip(audit.findings, text_rows(audit)))
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in HEAD)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What a neighbour learns</title>
<style>
body {{ font: 16px/1.5 sans-serif; color: {INK}; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: .85rem }} td, th {{ padding: .2rem .6rem; text-align: left }}
tr.over td {{ background: #fbe3d6 }} th {{ border-bottom: 1px solid {FAINT} }} img {{ max-width: 100% }}
.verdict {{ font-size: 1.2rem; font-weight: bold }}
</style></head><body>
<h1>What a neighbour learns</h1>
<p class="verdict">{html.escape(verdict(audit))}</p>
<p>Peers that train a model together send messages to their neighbours. This page says what a participant that follows
the protocol, and looks closely at the messages that it receives, finds out about the recordings of another peer.
The attacks were made in simulation, on {html.escape(audit.corpus)}, with {counted(audit.seeds, "run")}.
An attack that is not on this page may find more.</p>
<img src="audit.png" alt="Each figure that has a limit, with its interval, its chance level and its limit">
<h2>What the attacks ask</h2>
<dl>{_definitions({about: MEANING[about] for about in shown})}</dl>
<h2>How it is measured</h2>
<dl>{_definitions({measure: MEASURES[measure] for measure in measures})}</dl>
<p>Chance is what guessing without any message gives. The limits are settings (privacy.limits). A figure beyond its
limit is unclear where guessing might reach it too; then more runs tell (--seeds).</p>
<h2>All figures</h2>
<table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table>
<h2>Notes</h2>
<ul>{"".join(f"<li>{html.escape(note)}</li>" for note in audit.notes)}</ul>
</body></html>
"""


def _definitions(words: dict[str, str]) -> str:
    return "".join(f"<dt><b>{html.escape(word)}</b></dt><dd>{html.escape(text)}</dd>" for word, text in words.items())


def picture(audit: Audit, path: Path) -> None:
    """Write the picture of the figures that have a limit: value and interval, chance and limit, from 0 to 1."""
    shown = [finding for finding in audit.findings if finding.limit is not None]
    figure = new_figure(9.0, 1.2 + 0.3 * len(shown))
    axes = figure.subplots()
    for y, finding in enumerate(shown):
        scale = finding.targets if finding.measure == "other peers" else 1.0
        colour = COLOURS[1] if finding.exceeded else COLOURS[2]
        if not math.isnan(finding.low):
            axes.plot([finding.low, finding.high], [y, y], color=colour, linewidth=2)
        axes.plot(finding.value / scale, y, "o", color=colour)
        axes.plot(finding.chance / scale, y, "|", color=FAINT, markersize=11)
        axes.plot((finding.limit or 0) / scale, y, "|", color=INK, markersize=15, markeredgewidth=2)
    names = [f"{finding.about}: {finding.attack}, {finding.seen}"
             + ("" if finding.rounds is None else f", {finding.rounds} rounds") for finding in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("found, 95 % interval; grey: chance; black: limit; peers as a share of the others", fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save(figure, path)
