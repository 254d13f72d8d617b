"""Which layer may import which, and what the linters say."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# networks know tensors, transforms one sample, pipeline data sets.
ALLOWED = {
    "networks": {"networks"},
    "transforms": {"networks", "transforms"},
    "pipeline": {"networks", "transforms", "pipeline"},
}
# A bundle file or a model's description names the network and the loss; no module of the other layers does.
NAMED_IN_JSON = {"CrossEntropyDiceLoss", "LesionDiceCELoss", "ResUNet", "SegNet", "UNet"}
NAMED_IN_JSON |= {"losses", "resunet", "segnet", "slice_network", "unet"}
# What the modules of pipeline/models may know of pipeline, themselves aside, however many imports away it is: nothing of
# training, of inference or of data sets.
MODELS_KNOW = {"components", "exports", "files", "locks", "ranks"}


def imported(path):
    """Yield the names of this project that a module imports, as lists of words after `strokelesion`."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (name.split(".")[1:] for name in names if name.startswith("strokelesion."))


def relative_imports(path):
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    return [node.module for node in nodes if node.level]


def file_of(words):
    """Return the file of an imported module, or of the module that an imported name stands in."""
    for parts in (words, words[:-1]):
        for path in (ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts, "__init__.py")):
            if parts and path.is_file():
                return path
    raise AssertionError(words)


@pytest.mark.parametrize("layer", ALLOWED)
def test_layers_import_only_what_they_may_know(layer):
    files = list((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        assert {words[0] for words in imported(path)} <= ALLOWED[layer], path
        assert relative_imports(path) == [], path  # they would not be seen here


@pytest.mark.parametrize("layer", ["transforms", "pipeline"])
def test_networks_and_losses_are_named_in_json_only(layer):
    for path in (ROOT / layer).rglob("*.py"):
        names = {word for words in imported(path) if words[0] == "networks" for word in words[1:]}
        assert not names & NAMED_IN_JSON, path


def test_models_know_nothing_of_training_and_inference():
    begun = set((ROOT / "pipeline/models").glob("*.py"))
    assert len(begun) > 1
    found, new = set(begun), set(begun)
    while new:
        new = {file_of(words) for path in new for words in imported(path)} - found
        found |= new
    others = {path.relative_to(ROOT).with_suffix("").parts for path in found - begun}
    assert {parts[1:] for parts in others if parts[0] == "pipeline"} <= {(name,) for name in MODELS_KNOW}


def test_every_module_says_why_it_exists():
    for path in (path for layer in ALLOWED for path in (ROOT / layer).rglob("*.py")):
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]])
def test_linters_are_silent(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
