"""The distribution p2pser-predict: the same package, with what predictions from ONNX need and without torch.

It is installed instead of p2pser, never beside it. Versions and requirements are those of setup.cfg.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

NEEDED = ("numpy", "soundfile", "soxr", "click", "pydantic", "rich", "PyYAML", "platformdirs")
"""The requirements of p2pser that its predictions use."""

EXTRAS = ("serve", "live", "media", "frames", "hub")

root = Path(__file__).resolve().parents[2]
whole = ConfigParser()
whole.read(root / "setup.cfg", encoding="utf-8")


def listed(section: str, option: str) -> list[str]:
    return [line for line in whole.get(section, option).splitlines() if line.strip()]


def name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0]


runtime = [line for line in listed("options.extras_require", "onnx") if name(line) == "onnxruntime"]
version = re.search(r'__version__ = "(.+)"', (root / "p2pser/base/version.py").read_text(encoding="utf-8"))[1]

setup(
    name="p2pser-predict",
    version=version,
    description="Predictions of p2pser's models for speech emotion recognition, without torch",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license=whole.get("metadata", "license"),
    classifiers=listed("metadata", "classifiers"),
    python_requires=whole.get("options", "python_requires"),
    packages=find_packages(str(root), include=["p2pser*"]),
    package_dir={"p2pser": "../../p2pser"},
    package_data={"p2pser": listed("options.package_data", "p2pser")},
    install_requires=[line for line in listed("options", "install_requires") if name(line) in NEEDED] + runtime,
    extras_require={extra: listed("options.extras_require", extra) for extra in EXTRAS
                    if whole.has_option("options.extras_require", extra)},
    entry_points={"console_scripts": listed("options.entry_points", "console_scripts")},
)
