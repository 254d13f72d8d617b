"""The documentation: its links lead somewhere, its commands take their options, and its figures are up to date."""

import importlib
import re
import shlex

import pytest
from checkout import ROOT

from strokelesion.pipeline.console.command_line import make_parser, with_underscores
from strokelesion.pipeline.console.commands import COMMANDS
from strokelesion.pipeline.derivatives.outputs import OTHERS, OUTPUTS
from strokelesion.pipeline.derivatives.table_columns import NAMED_BY, TABLES
from strokelesion.pipeline.options.settings import Settings

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FIGURES = ("data_flow", "resunet")
CODE = re.compile(r"```.*?```", flags=re.DOTALL)
COMMAND = re.compile(r"-m\s+monai\.bundle run (?:[^\n`]|\\\n)+")
# Blocks of commands, and those of the program in them, each at the start of a line.
BASH = re.compile(r"```bash\n(.*?)```", flags=re.DOTALL)
PROGRAM = re.compile(r"^ *strokelesion (?:\\\n|[^\n])+", flags=re.MULTILINE)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_program_takes_the_words_of_its_examples(page):
    for command in PROGRAM.findall("\n".join(BASH.findall(page.read_text()))):
        words = [*map(with_underscores, shlex.split(command.replace("\\\n", " "), comments=True))]
        _, others = make_parser().parse_known_args(words[1:])
        assert not [word for word in others if not word.startswith("$")], command


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_as_their_programs_draw_them(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/figures"))
    drawn = importlib.import_module(f"draw_{name}").draw()
    assert drawn == (ROOT / f"docs/figures/{name}.svg").read_text(), f"run python docs/figures/draw_{name}.py"


def test_the_page_of_options_maps_the_names_of_the_program_to_those_of_the_bundle_files():
    text = (ROOT / "docs/options.md").read_text()
    renamed = {name: known.bundle_command for name, known in COMMANDS.items() if name != known.bundle_command}
    assert set(re.findall(r"^\| `(\w+)` \| `(\w+)` \|$", text, flags=re.MULTILINE)) == {*renamed.items()}


def rows_of_outputs():
    """Yield the rows of the tables of `docs/outputs.md`: files of a scan, files of the folder, and columns."""
    for output in OUTPUTS:
        option = f"`{output.option}`" if output.option else ""
        yield from (f"| `{file}` | {text} | {option} |" for file, text in output.files.items())
        shared = {f"{table}.tsv": (TABLES[table].text, TABLES[table].use) for table in output.tables} | {**output.shared}
        yield from (f"| `{file}` | {text} | {use} | {option} |" for file, (text, use) in shared.items())
    yield from (f"| `{file}` | {text} | {use} | |" for file, (text, use) in OTHERS.items())
    for name in ("volumes", "lesions"):  # the others have few columns: those of the dictionaries beside the tables
        shown = {column: known for column, known in TABLES[name].columns.items() if column not in NAMED_BY}
        yield from (
            f"| `{column}` | {known.text} | {known.units} |"
            for column, known in shown.items()
            if not column.endswith(("_y_mm", "_z_mm"))  # like x
        )


def test_the_page_of_outputs_has_each_file_and_each_column_as_the_code_has_them():
    text = (ROOT / "docs/outputs.md").read_text().replace("|  |", "| |")
    assert [row for row in rows_of_outputs() if row.replace("|  |", "| |") not in text] == []
