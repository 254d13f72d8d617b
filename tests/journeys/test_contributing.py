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


def block(heading, kind, number=0):
    """Return a code block of a section of CONTRIBUTING.md, without its indent."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    indent, code = re.findall(rf"( *)```{kind}\n(.*?)```", section, flags=re.DOTALL)[number]
    return "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))


def added(diff):
    """Return the lines that a diff adds."""
    return [line[1:] for line in diff.splitlines() if line.startswith("+")]


@pytest.fixture
def bundles(tmp_path):
    """A copy of the bundle files to add to."""
    return shutil.copytree(ROOT / "bundles", tmp_path / "bundles", ignore=shutil.ignore_patterns("__pycache__"))


def derive(bundles):
    """Run the copy's program that writes derived files."""
    program = bundles / "derive.py"
    exec(compile(program.read_text(), str(program), "exec"), {"__name__": "__main__", "__file__": str(program)})


def train(bundles, name, phantom_dir, tmp_path, **options):
    run_dir = tmp_path / f"run_{name}"
    where = {"dataset_dir": str(phantom_dir), "run_dir": str(run_dir), "cache_dir": str(tmp_path / "store")}
    config_file = str(bundles / f"{name}.json")
    monai.bundle.run(run_id="training", config_file=config_file, logging_file=False, **QUICK, **where, **options)
    assert pd.read_csv(run_dir / "history.csv")["loss"].notna().all()
    return read_model(run_dir / "last.pt").description


def test_a_network_is_added_by_its_definition(bundles, phantom_dir, tmp_path):
    definition, row = block("Add a network", "json"), added(block("Add a network", "diff"))
    assert len(definition.splitlines()) + len(row) <= MOST_LINES
    (bundles / "overrides/attention.json").write_text(definition)
    program = bundles / "derive.py"
    program.write_text(
        program.read_text().replace('    "unet": ((), ()),\n', '    "unet": ((), ()),\n' + "\n".join(row) + "\n")
    )
    derive(bundles)
    description = train(bundles, "attention", phantom_dir, tmp_path)
    assert description.network_name == "AttentionUnet"
    # Any bundle file applies it.
    where = {"scans": str(next(phantom_dir.rglob("*t1w*"))), "output_dir": str(tmp_path / "masks"), "device": "cpu"}
    weights = str(tmp_path / "run_attention/best.pt")
    config_file = str(ROOT / "bundles/resunet.json")
    monai.bundle.run(run_id="inference", config_file=config_file, logging_file=False, weights=weights, **where)
    assert len(list((tmp_path / "masks").rglob("*_mask.nii.gz"))) == 1


def test_a_loss_is_added_by_one_line(bundles, phantom_dir, tmp_path):
    line = added(block("Add a loss", "diff"))
    assert len(line) <= MOST_LINES
    path = bundles / "resunet.json"
    sections = json.loads(path.read_text())
    sections["loss_functions"] |= json.loads("{" + line[0] + "}")
    path.write_text(json.dumps(sections))
    derive(bundles)
    description = train(bundles, "unet", phantom_dir, tmp_path, loss="tversky")
    assert description.training["loss"] == "tversky"


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
