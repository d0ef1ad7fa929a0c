"""Things by name: built in, registered by a decorator, added by an installed package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pser.base.errors import ConfigError, CorpusError
from p2pser.base.registry import Origin, Registry
from p2pser.base.version import __version__

DIST = "lamps"
ENTRIES = """[tests.lamps]
desk = lamps_desk:Desk
floor = lamps_floor
torn = lamps_torn:Torn
gone = lamps_gone:Gone
mute = lamps_mute
"""
MODULES = {
    "lamps_desk": "class Desk:\n    watts = 7\n",
    # It registers itself, under the name of its entry point.
    "lamps_floor": "import lamps_shop\n\n\n@lamps_shop.LAMPS.register('floor')\nclass Floor:\n    watts = 40\n",
    "lamps_torn": "raise RuntimeError('no bulb')\n",
    "lamps_mute": "watts = 1\n",
    "lamps_shop": "from p2pser.base.registry import Registry\n"
                  "LAMPS = Registry('lamp', 'tests.lamps', 'lamps_built_in')\n",
    "lamps_built_in/__init__": "",
    "lamps_built_in/wall_light": "import lamps_shop\n\n\n@lamps_shop.LAMPS.register('wall-light')\nclass WallLight:\n"
                                 "    watts = 12\n",
}


@pytest.fixture
def lamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[type]]:
    """A registry of lamps: one built in, five of an installed package, of which three cannot be had."""
    for name, text in MODULES.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    info = tmp_path / f"{DIST}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DIST}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    import lamps_shop

    yield lamps_shop.LAMPS
    for name in set(sys.modules) - before:
        if name.startswith("lamps_"):
            del sys.modules[name]


def imported() -> set[str]:
    return {name for name in sys.modules if name.startswith("lamps_")} - {"lamps_shop", "lamps_built_in"}


def test_names_are_listed_without_importing_what_they_stand_for(lamps: Registry[type]) -> None:
    assert lamps.names() == ["desk", "floor", "gone", "mute", "torn", "wall-light"]
    assert list(lamps) == lamps.names()
    assert "wall-light" in lamps
    assert "desk" in lamps
    assert "wall_light" not in lamps
    assert imported() == set()


def test_a_built_in_thing_is_imported_on_first_use_and_no_other(lamps: Registry[type]) -> None:
    assert lamps["wall-light"].watts == 12
    assert imported() == {"lamps_built_in.wall_light"}


def test_an_entry_point_names_the_object_or_a_module_that_registers_it(lamps: Registry[type]) -> None:
    assert lamps["desk"].watts == 7
    assert lamps["floor"].watts == 40
    assert lamps["desk"] is lamps["desk"]


@pytest.mark.parametrize(("name", "reason"), [
    ("torn", "RuntimeError: no bulb"), ("gone", "ModuleNotFoundError: No module named 'lamps_gone'"),
    ("mute", "the module lamps_mute registers no lamp of this name"),
])
def test_a_broken_entry_point_is_named_once_and_left_out(lamps: Registry[type], name: str, reason: str) -> None:
    unknown = f"there is no lamp '{name}'"
    with pytest.warns(UserWarning, match="is left out") as warned, pytest.raises(ConfigError, match=unknown):
        lamps[name]
    assert [str(warning.message).startswith(f"the lamp {name!r} of lamps 1.2 cannot be loaded and is left out")
            for warning in warned] == [True]
    assert reason in str(warned[0].message)
    assert name not in lamps.names()
    with pytest.raises(ConfigError, match=unknown):  # without another warning
        lamps[name]


def test_items_are_all_that_can_be_loaded(lamps: Registry[type]) -> None:
    with pytest.warns(UserWarning, match="is left out") as warned:
        things = {name: thing.watts for name, thing in lamps.items()}
    assert things == {"desk": 7, "floor": 40, "wall-light": 12}
    assert len(warned) == 3


def test_the_origin_of_a_thing_is_its_distribution_or_its_module(lamps: Registry[type]) -> None:
    assert lamps.origin("desk") == Origin("lamps", "1.2")
    assert str(lamps.origin("desk")) == "lamps 1.2"
    assert imported() == set()
    lamps.register("candle", module="__main__")(type("Candle", (), {}))
    assert lamps.origin("candle") == Origin("__main__", "")
    assert str(lamps.origin("candle")) == "__main__"
    lamps.register("bulb", module="p2pser.wire.codec")(type("Bulb", (), {}))
    assert lamps.origin("bulb") == Origin("p2pser", __version__)
    assert lamps.origin("bulb").builtin
    assert not lamps.origin("desk").builtin
    with pytest.raises(ConfigError, match="there is no lamp 'dsk'; did you mean 'desk'"):
        lamps.origin("dsk")


def test_the_decorator_returns_what_it_registers_and_needs_no_package() -> None:
    tools: Registry[type] = Registry("tool", "tests.no-such-group", error=CorpusError)

    @tools.register("saw")
    class Saw:
        pass

    assert tools["saw"] is Saw
    assert tools.names() == ["saw"]
    with pytest.raises(CorpusError, match="there is no tool 'sew'; did you mean 'saw'"):
        tools["sew"]


def test_a_name_is_taken_once_but_by_its_own_module_again() -> None:
    tools: Registry[object] = Registry("tool", "tests.no-such-group")
    first, again = object(), object()
    tools.register("saw", module="workshop")(first)
    tools.register("saw", module="workshop")(again)  # reloaded
    assert tools["saw"] is again
    with pytest.raises(ConfigError, match="there are two tools named 'saw', in workshop and in garage: rename one"):
        tools.register("saw", module="garage")(object())
    assert tools["saw"] is again


@pytest.mark.parametrize(("first", "second"), [("__main__", "__mp_main__"), ("__mp_main__", "__main__")])
def test_a_script_is_one_module_in_the_processes_that_it_starts(first: str, second: str) -> None:
    tools: Registry[object] = Registry("tool", "tests.no-such-group")
    tools.register("saw", module=first)(object())
    tools.register("saw", module=second)(object())
    with pytest.raises(ConfigError, match="two tools named 'saw'"):
        tools.register("saw", module="garage")(object())


def test_modules_that_register_several_things_are_imported_for_the_names(tmp_path: Path) -> None:
    (tmp_path / "hooks_and_nails.py").write_text(
        "from hardware import PARTS\nPARTS.register('hook')(1)\nPARTS.register('nail')(2)\n")
    (tmp_path / "hardware.py").write_text(
        "from p2pser.base.registry import Registry\n"
        "PARTS = Registry('part', 'tests.no-such-group', modules=['hooks_and_nails'])\n")
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from hardware import PARTS; "
            "print(PARTS.names(), PARTS['nail'])")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['hook', 'nail'] 2"


def test_a_built_in_name_is_taken_before_its_module_is_imported(lamps: Registry[type]) -> None:
    with pytest.raises(ConfigError, match=r"two lamps named 'wall-light', in lamps_built_in\.wall_light and in"):
        lamps.register("wall-light")(int)
    assert lamps["wall-light"].watts == 12
