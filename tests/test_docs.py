"""The documentation: its links lead somewhere, its commands take their options, and its figures are up to date."""

import importlib
import re

import pytest
from checkout import ROOT

from strokelesion.pipeline.options.settings import Settings

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FIGURES = ("data_flow", "resunet")
CODE = re.compile(r"```.*?```", flags=re.DOTALL)
COMMAND = re.compile(r"-m\s+monai\.bundle run (?:[^\n`]|\\\n)+")
TAKEN_BY_MONAI = {"config_file", "bundle_root"}


def anchors(path):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", path.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if not path.startswith("http"):
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_take_their_options_and_programs_exist(page):
    text = page.read_text()
    for command in COMMAND.findall(text):
        assert set(re.findall(r" --(\w+)", command)) <= {*Settings.model_fields, *TAKEN_BY_MONAI}, command
    for program in re.findall(r"(?:tests|docs|bundles|pipeline|transforms|networks)/[\w/]+\.(?:py|json)\b", text):
        if "attention" not in program and page.name != "CHANGELOG.md":
            assert (ROOT / program).exists(), program


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_as_their_programs_draw_them(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/figures"))
    drawn = importlib.import_module(f"draw_{name}").draw()
    assert drawn == (ROOT / f"docs/figures/{name}.svg").read_text(), f"run python docs/figures/draw_{name}.py"
