"""Which layer may import which; names are unique, and every module says why it exists."""

import ast

import pytest
from checkout import ROOT

# networks know tensors, transforms one sample, pipeline data sets.
ALLOWED = {
    "networks": {"networks"},
    "transforms": {"networks", "transforms"},
    "pipeline": {"networks", "transforms", "pipeline"},
}
# A bundle file or a model's description names the network and the loss; no module of the other layers does.
NAMED_IN_JSON = {"CrossEntropyDiceLoss", "LesionDiceCELoss", "ResUNet", "SegNet", "UNet"}
NAMED_IN_JSON |= {"losses", "resunet", "segnet", "slice_network", "unet"}
# The rooms of pipeline, and which others each may import.
ROOMS = {
    "runtime": set(),
    "pictures": set(),
    "cohorts": {"runtime"},
    "models": {"runtime"},
    "options": {"runtime", "cohorts", "models"},
    "training": {"runtime", "pictures", "cohorts", "models"},
    "finding": {"runtime"},
    "lesions": {"runtime", "finding"},
    "derivatives": {"runtime", "pictures", "finding", "lesions"},
    "inference": {"runtime", "models", "finding", "lesions", "derivatives"},
    "review": {"runtime", "pictures", "cohorts", "models", "finding", "lesions", "derivatives", "inference"},
    "evaluation": {"runtime", "pictures", "cohorts", "models", "finding", "lesions", "derivatives", "inference"},
    "report": {"runtime", "pictures", "cohorts", "models", "options", "lesions", "evaluation"},
    "synthesis": {"runtime", "cohorts"},
    "doctor": {"runtime", "cohorts", "training", "review"},
    "console": {"runtime", "options", "synthesis", "review"},
}


def imported(path):
    """Yield the names of this project that a module imports, as lists of words after `strokelesion`."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (name.split(".")[1:] for name in names if name.startswith("strokelesion."))


def relative_imports(path):
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    return [node.module for node in nodes if node.level]


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


def test_pipeline_is_made_of_rooms():
    names = {path.stem for path in (ROOT / "pipeline").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert names == {*ROOMS, "__init__"}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_those_before_them(room):
    for path in [*(ROOT / "pipeline" / room).rglob("*.py"), *(ROOT / "pipeline").glob(f"{room}.py")]:
        assert {words[1] for words in imported(path) if words[0] == "pipeline"} <= {room, *ROOMS[room]}, path


def test_no_two_modules_have_one_name():
    names = [path.stem for layer in ALLOWED for path in (ROOT / layer).rglob("*.py") if path.stem != "__init__"]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_every_module_says_why_it_exists():
    for path in (path for layer in ALLOWED for path in (ROOT / layer).rglob("*.py")):
        assert ast.get_docstring(ast.parse(path.read_text())), path
