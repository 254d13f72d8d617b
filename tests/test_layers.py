"""The law of the house: who may import whom; and the linters' word."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# networks know tensors, transforms one sample, pipeline data sets; a network is named in JSON only.
ALLOWED = {"networks": {"networks"}, "transforms": {"transforms"}, "pipeline": {"pipeline", "transforms"}}


def imported_layers(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (name.split(".")[1] for name in names if name.startswith("strokelesion."))


@pytest.mark.parametrize("layer", ALLOWED)
def test_layers_import_only_what_they_may_know(layer):
    files = list((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        assert set(imported_layers(path)) <= ALLOWED[layer], path


def test_every_module_says_why_it_exists():
    for path in (path for layer in ALLOWED for path in (ROOT / layer).rglob("*.py")):
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]])
def test_linters_are_silent(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
