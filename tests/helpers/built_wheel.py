"""The wheel of this checkout, and programs that run without the checkout on their path."""

import os
import shutil
import subprocess
import sys

from checkout import ROOT

PACKAGED = ("networks", "transforms", "pipeline", "bundles", "docs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")
PIP = ("-m", "pip", "--disable-pip-version-check")


def clean_environment():
    """Return the environment variables without the path to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*words, folder):
    """Run a program in a folder, with nothing of the checkout on its path; return what it prints."""
    words = tuple(map(str, words))
    ended = subprocess.run(words, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def build_wheel(source, wheels):
    """Build the wheel from a copy of the checkout in the folder `source`; return its path in the folder `wheels`."""
    for path in map(ROOT.joinpath, PACKAGED):
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=IGNORED)
        else:
            shutil.copy(path, source)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels)
    run(sys.executable, *PIP, "wheel", *options, source, folder=wheels)
    return next(wheels.glob("*.whl"))
