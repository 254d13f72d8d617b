"""The page `docs/atlas.md`, command by command, on a miniature of each release in the layout of its archive."""

import re
import shlex

import pandas as pd
import pytest
from atlas import write_release
from checkout import ROOT

from strokelesion.pipeline.console import command_line

PAGE = (ROOT / "docs/atlas.md").read_text()
RELEASES = {"R1.1": "R1.1", "R1.2": "R1.2", "R2.0": "R2.0", "R2.1": "R2.1, R3.0", "R3.0": "R2.1, R3.0"}
# A miniature is trained for one epoch at the size of its voxels.
QUICK = "--epochs 1 --spacing_mm 8 --batch_size 8 --val_interval 1 --panel_scans 0 --device cpu --split 2-fold --folds 0"


def commands():
    """Return the commands of the page, each as its words."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def options_of(release):
    """Return the options that the page's table asks for."""
    (row,) = re.findall(rf"^\| {re.escape(RELEASES[release])} \(.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    return [] if row == "none" else shlex.split(row.strip("`"))


def quick(words, dataset_dir, added):
    """Return a command of the page on a miniature: with its options, for one epoch and fewer networks."""
    name, *options = words[1:]
    if name == "report":
        return words[1:]
    given = [str(dataset_dir) if word.startswith("/data/") else word for word in options] + added
    if name == "doctor":
        return [name, *given]
    small = shlex.split(QUICK) + ([] if "--networks" in options else ["--networks", "resunet"])
    small += [] if "--losses" in options else ["--losses", "dice"]
    return [name, *drop(given, small), *small]


def drop(given, small):
    """Leave out the options that are given again."""
    pairs = list(zip(given[::2], given[1::2], strict=True))
    return [word for pair in pairs if pair[0] not in small for word in pair]


def exit_status(words):
    """Run a command in this process and return its exit status."""
    try:
        command_line.main(words)
    except SystemExit as stop:
        return stop.code or 0
    return 0


def test_the_page_names_the_commands_that_are_run_here():
    assert [words[1] for words in commands()] == [
        "doctor",
        "experiments",
        "experiments",
        "experiments",
        "report",
        "experiments",
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_the_commands_lead_from_the_archive_to_the_table(release, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset_dir = write_release(tmp_path / "data", release, shape=(23, 27, 21))
    for words in commands():
        assert exit_status(quick(words, dataset_dir, options_of(release))) == 0, words
    table = pd.read_csv("report/runs.csv")
    assert sorted(table.query("lesion == 'main'")["seed"]) == [0, 1, 2]
    study = pd.read_csv("report/study/runs.csv").set_index("lesion")
    assert study["scans"]["main"] > 0
    assert 0.5 < study["keras_dice_limit"]["main"] <= study["keras_dice_limit"]["both"]
