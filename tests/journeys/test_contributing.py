"""The recipes of CONTRIBUTING.md, followed to the letter: a network and a loss are added without Python, and train."""

import json
import re
import shutil
from pathlib import Path

import monai.bundle
import pandas as pd
import pytest
from checkout import ROOT

from strokelesion.pipeline.cohorts import layouts
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.models.model_files import read_model

MOST_LINES = 15
QUICK = {"spacing_mm": 4, "slice_mm": [192, 224], "batch_size": 8, "device": "cpu", "epochs": 1, "slices": "lesion"}


def block(heading, kind):
    """Return the first code block of a section of CONTRIBUTING.md, without its indent."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    indent, code = re.search(rf"( *)```{kind}\n(.*?)```", section, flags=re.DOTALL).groups()
    return "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))


def added(diff):
    """Return the lines that a diff adds."""
    return [line[1:] for line in diff.splitlines() if line.startswith("+")]


@pytest.fixture
def bundles(tmp_path):
    """A copy of the bundle files to add to."""
    return shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("__pycache__"))


def train(bundles, name, phantom_dir, tmp_path, **options):
    """Write the derived files of the copy, and train one of them; return what the model says of itself."""
    program = bundles / "derive.py"
    exec(compile(program.read_text(), str(program), "exec"), {"__name__": "__main__", "__file__": str(program)})
    run_dir, config_file = tmp_path / "run", str(bundles / f"{name}.json")
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(run_dir), "cache_dir": str(tmp_path / "store")}
    monai.bundle.run(run_id="training", config_file=config_file, logging_file=False, **QUICK, **where, **options)
    assert pd.read_csv(run_dir / "history.csv")["loss"].notna().all()
    return read_model(run_dir / "last.pt").description


def test_a_network_is_added_by_its_definition(bundles, run_command, phantom_dir, tmp_path):
    definition, row = block("Add a network", "json"), added(block("Add a network", "diff"))
    assert len(definition.splitlines()) + len(row) <= MOST_LINES
    (bundles / "overrides/attention.json").write_text(definition)
    program, first = bundles / "derive.py", '    "unet": ((), ()),\n'
    program.write_text(program.read_text().replace(first, "\n".join([first.rstrip(), *row, ""])))
    assert train(bundles, "attention", phantom_dir, tmp_path).network_name == "AttentionUnet"
    # Any bundle file applies it.
    where = {"scans": str(next(phantom_dir.rglob("*t1w*"))), "output_dir": str(tmp_path / "masks")}
    run_command("inference", "resunet", weights=str(tmp_path / "run/best.pt"), pages=False, **where)
    assert len(list((tmp_path / "masks").rglob("*_mask.nii.gz"))) == 1


def test_a_loss_is_added_by_one_line(bundles, phantom_dir, tmp_path):
    line = added(block("Add a loss", "diff"))
    assert len(line) <= MOST_LINES
    path = bundles / "resunet.json"
    sections = json.loads(path.read_text())
    sections["loss_functions"] |= json.loads("{" + line[0] + "}")
    path.write_text(json.dumps(sections))
    assert train(bundles, "unet", phantom_dir, tmp_path, loss="tversky").training["loss"] == "tversky"


def test_a_data_layout_is_added_by_one_row(tmp_path, monkeypatch):
    row = eval("\n".join(added(block("Add a data layout", "diff"))), vars(layouts))[0]
    monkeypatch.setattr(layouts, "LAYOUTS", [*layouts.LAYOUTS, row])
    for name in ("T1", "lesion"):
        path = tmp_path / row.example.replace("T1", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (record,) = read_cohort(tmp_path / "MyStudy")
    assert (record["subject"], record["session"], record["release"]) == ("P001", "", "MyStudy")
    assert Path(record["main_mask"]).name == "lesion.nii.gz"
