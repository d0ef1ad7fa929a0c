"""Every kind of file that a command reads, damaged: one sentence and exit code 2, or one clip left out and counted."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from calls import RATE, call, furnish, nothing_long

LONGEST = 6.0
"""Longest time of the processor in which a bad file is refused [s]."""
RUN = ("--peers", "4", "--corpus", "auto", "--data", "clips.csv")
HEADER, ROWS = "path,speaker,emotion", [f"clips/{emotion}/{speaker}{number}.wav,{speaker},{emotion}"
                                        for speaker in "ab" for number, emotion in enumerate(("anger", "neutral"))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("damaged"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path) -> Path:
    """A folder of the test's own with the clips, the model, and a manifest, in which it is called."""
    monkeypatch.chdir(tmp_path)
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def wrong(*arguments: str, codes: tuple[int, ...] = (2,), says: str = "", out: io.StringIO | None = None) -> list[Any]:
    """Call; return what is wrong with the answer, an empty list where nothing is."""
    began = time.process_time()
    code, said = call(*arguments, out=out)
    took = time.process_time() - began
    good = code in codes and took < LONGEST and "Traceback" not in said and len(said) < 3000 and says in said \
        and (code != 2 or bool(said.strip()))
    return [] if good else [(arguments[-1], code, round(took, 1), said[-300:])]


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return the bytes with a few changes, mostly near their beginning."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(max(1, min(len(out), draw.choice((32, 400, len(out))))))
        change = draw.randrange(5)
        if change == 0:
            out[at:at + 1] = bytes([draw.randrange(256)])
        elif change == 1:
            out[at:at + 4] = draw.choice((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"9" * 20))
        elif change == 2:
            del out[at:at + draw.choice((1, 4, 100))]
        elif change == 3:
            out[at:at] = draw.choice((b"{", b'"', b"\0", b"[" * 500, struct.pack("<Q", draw.getrandbits(64))))
        else:
            del out[max(at, 1):]
    return bytes(out)


# -- recordings ----------------------------------------------------------------------------------------------


def recordings(folder: Path) -> dict[str, str]:
    """Write bad recordings; return of some what is said ("": they can be read all the same)."""
    tone = (0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE // 2) / RATE)).astype(np.float32)
    whole = {}
    for form in ("WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "W64", "RF64", "VOC", "NIST"):
        suffix = {"NIST": ".sph"}.get(form, f".{form.lower()}")
        soundfile.write(folder / "whole", tone, RATE, format=form, subtype="VORBIS" if form == "OGG" else "PCM_16")
        whole[suffix] = (folder / "whole").read_bytes()
    (folder / "whole").unlink()
    for suffix, data in whole.items():
        for case in range(7):
            (folder / f"damaged-{case}{suffix}").write_bytes(damaged(data, random.Random(f"{suffix}{case}")))
    wav, flac = bytearray(whole[".wav"]), bytearray(whole[".flac"])
    wav[4:8] = wav[40:44] = bytes(4)
    flac[21] |= 0x0F  # the high bits of the number of samples, of 36
    flac[22:26] = b"\xff" * 4
    soundfile.write(folder / "inverted.wav", np.stack([tone, -tone], axis=1), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "short.wav", tone[:100], RATE)
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    for name, content in {"sizes-of-0.wav": wav, "absurd.flac": flac, "empty.wav": b"", "text.wav": b"hello\n" * 9,
                          "lfs.flac": b"version https://git-lfs.github.com/spec/v1\n", "noise.mp3": b"\1\2" * 999,
                          "noise.m4a": b"\1\2" * 999, "noise.webm": b"\xff" * 999}.items():
        (folder / name).write_bytes(content)
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "nowhere.wav").symlink_to("nothing")
    (folder / "endless.wav").symlink_to("/dev/zero")
    return {
        "sizes-of-0.wav": "", "absurd.flac": "", "inverted.wav": "", "silent.wav": "silent", "short.wav": "shorter",
        "nan.wav": "not finite", "empty.wav": "empty", "text.wav": "text", "lfs.flac": "git-LFS",
        "noise.mp3": "not a recording", "pipe.wav": "a pipe or a device", "loop.wav": "cannot be opened",
        "nowhere.wav": "missing", "endless.wav": "a pipe or a device"}


def test_a_bad_recording_costs_only_itself(here: Path) -> None:
    (here / "bad").mkdir()
    expected = recordings(here / "bad")
    shutil.copy(here / "clips" / "anger" / "a0.wav", here / "bad" / "good.wav")
    out = io.StringIO()
    code, lines = call("predict", "model", "bad", "--json", out=out)
    assert (code, "Traceback" in lines) == (2, False), lines
    answer = json.loads(out.getvalue())
    said = {Path(one["path"]).name: one["reason"] for one in answer["errors"]}
    said |= {Path(one["path"]).name: "" for one in answer["predictions"]}
    assert set(said) == {path.name for path in (here / "bad").iterdir()} - {"folder.wav"}
    assert len(said) > 80
    assert {name: reason in said[name] if reason else said[name] for name, reason in expected.items()} == \
        {name: True if reason else "" for name, reason in expected.items()}
    assert said["good.wav"] == ""
    assert all(len(reason) < 300 and "\n" not in reason for reason in said.values())
    assert wrong("corpus", "scan", "bad", codes=(0, 2)) == []
    assert [why for path in sorted((here / "bad").iterdir())
            for why in wrong("predict", "model", str(path), codes=(0, 2))] == []


# -- manifests -----------------------------------------------------------------------------------------------


def lines(*rows: str, end: str = "\n", encoding: str = "utf-8") -> bytes:
    return (end.join(rows) + end).encode(encoding)


def changed(old: str, new: str) -> list[str]:
    return [row.replace(old, new) for row in (HEADER, *ROWS)]


MANIFESTS: dict[str, tuple[bytes, int | str]] = {
    # content; the number of clips that are left, or what is said
    "plain": (lines(HEADER, *ROWS), 4), "mark": (lines(HEADER, *ROWS, encoding="utf-8-sig"), 4),
    "utf-16": (lines(HEADER, *ROWS, encoding="utf-16"), 4), "old mac": (lines(HEADER, *ROWS, end="\r"), 4),
    "utf-16 without a mark": (lines(HEADER, *ROWS, encoding="utf-16-le"), "not UTF-8"),
    "utf-32": (lines(HEADER, *ROWS, encoding="utf-32"), "not UTF-8"),
    "latin": (lines(HEADER, "\xe9.wav,a,joy", encoding="latin-1"), "not UTF-8"),
    "half a character": (HEADER.encode() + b"\nclips/\xed\xa0\x80.wav,a,joy\n", "not UTF-8"),
    "capitals": (lines(HEADER.title(), *ROWS), 4), "blanks": (lines(" path , speaker , emotion ", *ROWS), 4),
    "sep": (lines("sep=;", *changed(",", ";"), end="\r\n"), 4), "SEP": (lines("SEP=;", *changed(",", ";")), 4),
    "quoted sep": (lines('"sep=;"', *changed(",", ";")), 4), "sep |": (lines("sep=|", *changed(",", "|")), 4),
    "empty sep": (lines("sep=", HEADER, *ROWS), 4), "other sep": (lines("sep=;", HEADER, *ROWS), 4),
    "tabs": (lines(*changed(",", "\t")), 4),
    "quoted comma": (lines('path;"speaker, name";emotion', *changed(",", ";")[1:]), 4),
    "all quoted": (lines(*(f'"{row}"' for row in changed(",", '";"'))), 4),
    "columns without a name": (lines(*(row + ",,," for row in (HEADER, *ROWS))), 4),
    "blank rows": (lines(HEADER, "", ROWS[0], ",,", *ROWS[1:]), 4),
    "backslashes": (lines(*changed("/", "\\")), 4),
    "drive": (lines(HEADER, "C:\\d\\a.wav,a,joy"), "Windows"),
    "drive and /": (lines(HEADER, "C:/a.wav,a,x"), "Windows"),
    "share": (lines(HEADER, "\\\\host\\a.wav,a,joy"), "Windows"),
    "one of a drive": (lines(HEADER, *ROWS, "D:a.wav,a,joy"), 4),
    "case": (lines(*changed(".wav", ".WAV")), "did you mean a0.wav?"),
    "a folder's case": (lines(*changed("clips/", "Clips/")), "did you mean clips/anger/a0.wav?"),
    "NaN": (lines(HEADER, *ROWS[:3], ROWS[3].replace("neutral", "NaN")), 3),
    "all NaN": (lines(HEADER, "clips/anger/a0.wav,NaN,NaN"), "no label"),
    "ratings": (lines("path,arousal", *(f"{row.split(',')[0]},{value}" for row, value in zip(ROWS, (
        "0.5", "1_0", "1e999", "9" * 4000)))), 1),
    "votes": (lines("path,emotion,votes.x", "clips/anger/a0.wav,joy,-1", "clips/anger/b0.wav,joy,.5"), 1),
    "0 in a cell": (lines(HEADER, *ROWS, "clips/\0.wav,a,joy"), 4), "0 above": (b"pa\0th,emotion\n", "not UTF-8"),
    "folders": (lines(HEADER, *ROWS, "clips,a,joy", ".,a,joy", "/,a,joy"), 4),
    "devices": (lines(HEADER, *ROWS, "/dev/zero,a,joy", "/dev/stdin,a,joy"), 4),
    "other lengths": (lines(HEADER, *ROWS, "clips", ROWS[0] + ",extra"), 4),
    "the same path": (lines(HEADER, *ROWS, *ROWS), 4), "open quote": (lines(HEADER, *ROWS, '"clips,a'), "line 6"),
    "long cell": (lines(HEADER, *ROWS, "x" * 10**6), 4), "a long name": (lines(HEADER, *ROWS, "x" * 9999), 4),
    "many columns": (lines(HEADER + "," + ",".join(map(str, range(10**6))), *ROWS), "1000003 columns"),
    "many blank columns": (lines(HEADER + "," * 10**6, *ROWS), "1000003 columns"),
    "twice": (lines("path,path,emotion", *ROWS), "twice"), "no label": (lines("path,speaker", "a,b"), "no label"),
    "no rows": (lines(HEADER), "no usable clip"), "nothing": (b"", "no column 'path'"),
    "no day": (lines(HEADER + ",consent_until", ROWS[0] + ",2020-13-99"), "no day"),
    "an early day": (lines(HEADER + ",consent_until", ROWS[0] + ",-1-1-1"), "no day"),
    "bytes": (bytes(range(256)) * 99, "not UTF-8"), "a workbook": (b"PK\3\4" + bytes(999), "not UTF-8"),
    "a page": (b"<html><body>path,emotion</body></html>", "no column 'path'"),
}


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_bad_cell_costs_its_clip_and_a_bad_manifest_one_sentence(here: Path, suffix: str) -> None:
    found: dict[str, Any] = {}
    for number, (name, (content, expected)) in enumerate(MANIFESTS.items()):
        (here / f"m{number}{suffix}").write_bytes(content)
        out = io.StringIO()
        says = expected if isinstance(expected, str) else ""
        bad = wrong("corpus", "describe", f"manifest=m{number}{suffix}", "--json", codes=(2,) if says else (0,),
                    says=says, out=out)
        if bad or (not says and json.loads(out.getvalue())["clips"] != expected):
            found[name] = bad or out.getvalue()
    assert found == {}


# -- YAML ----------------------------------------------------------------------------------------------------


def yaml_files() -> Iterator[tuple[str, str]]:
    ring = "graph: {kind: ring, peers: 3}\n"
    yield from {
        "deep": "a: " + "[" * 600, "deep map": "{" * 600,
        "deep block": "".join(" " * i + "a:\n" for i in range(600)),
        "deep list": "- " * 9999 + "x", "huge int": "seed: " + "9" * 10**5, "hex": "seed: 0x" + "f" * 5000,
        "huge float": "training: {lr: 1e" + "9" * 50 + "}", "base 60": "seed: " + ":".join(["59"] * 3000),
        "date": "seed: 2020-99-99", "time": "seed: 2001-01-01 99:99:99", "no time": "seed: !!timestamp x",
        "python": "a: !!python/object/apply:os.system [ls]", "binary": "a: !!binary '%%'", "no bool": "a: !!bool x",
        "set": "? a\n? b", "pairs": "--- !!omap\n- a: 1", "merge": "<<: 5", "itself": "&a [*a]", "no anchor": "*x",
        "list key": "{[1, 2]: 3}", "map key": "? {a: b}\n: c", "two": "a: 1\n---\nb: 2", "0": "a: \0",
        "tab": "a:\n\tb: 1",
        "list": "- 1", "word": "hello", "number": "5", "version": "%YAML 9.9\n---\na: 1", "nan": "training: {lr: .nan}",
        "text": "lorem ipsum, 1 2 3\n" * 2000, "long text": "lorem ipsum, 1 2 3\n" * 110000, "quote": '"' + "a" * 10**4,
        "anchors": "\n".join(f"a{i}: &a{i} 1" for i in range(999)), "dashes": "-\n" * 2000,
        "bomb": "a: &a [x,x]\n" + "\n".join(f"a{i + 1}: &a{i + 1} [*a{i or ''},*a{i or ''}]" for i in range(40)),
    }.items()
    for number, graph in enumerate((
            "{kind: nope}", "{kind: ring, peers: -1}", "{kind: ring, peers: 10000000000000}",
            "{kind: ring, peers: .inf}",
            "{edges: [[0, 1], [1, 99999999999]]}", "{edges: [[0, 0]]}", "{edges: 5}", "{edges: [[0, a]]}",
            "{edges: [[0, true]]}", "{graphml: nope.graphml}", "{graphml: /dev/null}", "{graphml: clips}",
            "{kind: torus, peers: 7}", "{kind: erdos-renyi, peers: 9, probability: .nan}",
            "{kind: random-regular, peers: 9, degree: 9}")):
        yield f"graph {number}", f"graph: {graph}"
    for number, more in enumerate((
            "peers: {0: {address: 'tcp://*:1'}}", "peers: {0: {address: 'tcp://[::1:1'}}", "peers: {7: {key: x}}",
            "peers: {0: {address: 'tcp://h:99999'}}", "peers: {a: 3}", "peers: 3", "peers: {0: {key: x}}",
            "weights: {edges: [[0, 1, .nan], [1, 2, 1], [0, 2, 1]]}", "weights: nope", "epoch: 1e9", "epoch: -1",
            "hub: 9", "weights: {edges: [[0, 1, 1e308], [1, 2, 1e308], [0, 2, 1e308]]}", "retired: [0, 1, 2]",
            "retired: x", "name: [1]", "signed: 3", "signed: {by: x, signature: y}")):
        yield f"ring {number}", ring + more


def test_a_bad_run_file_and_a_bad_topology_are_refused_soon(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_long(monkeypatch)
    files, found = list(yaml_files()), []
    for number, (name, text) in enumerate(files):
        (here / f"{number}.yaml").write_text(text)
        found += wrong("topology", "show", f"{number}.yaml")
        if not name.startswith(("graph", "ring")):
            found += wrong("simulate", *RUN, "--run", f"{number}.yaml")
        if number % 5 == 0:
            found += wrong("accept", f"{number}.yaml", "--data", "clips")
            found += wrong("topology", "sign", f"{number}.yaml")
    assert found == []
    assert len(files) > 60
    (here / "nothing.yaml").write_text("# nothing")
    assert wrong("simulate", *RUN, "--run", "nothing.yaml", codes=(-1,)) == []


# -- keys, models and places ---------------------------------------------------------------------------------


def test_a_bad_key_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_long(monkeypatch)
    found = []
    for number, content in enumerate((b"", b"hello", bytes(range(256)), b"x" * 10**6, bytes(31), b"\n" * 99)):
        (here / f"key-{number}").write_bytes(content)
        (here / f"key-{number}").chmod(0o600)
        found += wrong("peer", "--id", "0", *RUN, "--set", f"network.secret=key-{number}")
        found += wrong("topology", "sign", str(here / "clips.csv"), "--key-file", f"key-{number}")
    os.mkfifo(here / "pipe", mode=0o600)
    found += wrong("peer", "--id", "0", *RUN, "--set", "network.secret=clips")
    found += wrong("peer", "--id", "0", *RUN, "--set", "network.secret=pipe", says="is not a file")
    assert found == []


def other_values(document: Any, draw: random.Random) -> Any:
    """Return a JSON document of which one value, anywhere, is another."""
    values: tuple[Any, ...] = (None, 0, -1, 1e308, 10**30, "", "x" * 9999, "\0", [], {}, [[]], [1] * 999, True,
                               float("nan"), {"a": {"b": 1}}, ["a", "a"])
    inner = list(document.items()) if isinstance(document, Mapping) else \
        list(enumerate(document)) if isinstance(document, list) else []
    if not inner or draw.random() < 0.2:
        return draw.choice(values)
    key, value = draw.choice(inner)
    copy = dict(document) if isinstance(document, Mapping) else list(document)
    copy[key] = other_values(value, draw)
    return copy


def test_a_damaged_model_is_refused_or_predicts(here: Path) -> None:
    card, weights = (here / "model" / name for name in ("card.json", "model.safetensors"))
    found = []
    for number in range(60):
        draw, folder = random.Random(number), here / f"model-{number}"
        folder.mkdir()
        text, numbers = card.read_bytes(), weights.read_bytes()
        if number % 3 == 0:
            text = json.dumps(other_values(json.loads(text), draw)).encode()
        elif number % 3 == 1:
            text = damaged(text, draw)
        else:
            numbers = damaged(numbers, draw)
        (folder / "card.json").write_bytes(text)
        (folder / "model.safetensors").write_bytes(numbers)
        found += wrong("predict", folder.name, "clips/anger/a0.wav", codes=(0, 2))
    assert found == []


@pytest.mark.parametrize("where", ["clips", "nope", "loop", "file", "empty"])
def test_what_is_no_such_file_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    nothing_long(monkeypatch)
    (here / "loop").symlink_to("loop")
    found = [*wrong("simulate", *RUN, "--run", where), *wrong("topology", "show", where), *wrong("accept", where),
             *wrong("predict", where, "clips"), *wrong("topology", "assemble", where), *wrong("status", where),
             *wrong("corpus", "describe", f"manifest={where}"), *wrong("topology", "sign", where),
             *wrong("export", where, "--onnx", "o")]
    assert found == []


def test_a_home_is_a_home_in_settings_of_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_long(monkeypatch)
    monkeypatch.setenv("HOME", str(here))
    Path("run.yaml").write_text("corpus: {name: manifest, data: ~/clips.csv}")
    assert wrong("simulate", "--peers", "4", "--run", "run.yaml", codes=(-1,)) == []
