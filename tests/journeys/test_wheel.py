"""The wheel by itself: installed without the checkout, it trains and segments in an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from checkout import ROOT

PACKAGED = ("networks", "transforms", "pipeline", "bundles", "docs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


def run(*words, folder):
    """Run a program in a folder, with nothing of the checkout on its path; return what it prints."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run([*map(str, words)], cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that holds the wheel, and the other packages of this one."""
    source, wheels, folder = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "environment"))
    for path in map(ROOT.joinpath, PACKAGED):
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=IGNORED)
        else:
            shutil.copy(path, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source, folder=wheels)
    venv.create(folder, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # Packages of a folder that a .pth file names are found; its own .pth files, such as that of the checkout, are not read.
    (own / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run(*pip, "install", "--quiet", "--no-deps", "--target", own, next(wheels.glob("*.whl")), folder=wheels)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def root(python, tmp_path_factory):
    """Where the installed bundle files are."""
    program = (
        "from strokelesion.pipeline.options import workflow; import strokelesion;"
        "print(*strokelesion.__path__, workflow.bundle_root())"
    )
    *packages, root = run(python, "-c", program, folder=tmp_path_factory.mktemp("empty")).split()
    assert all(Path(package).is_relative_to(python.parent.parent) for package in packages)
    return Path(root)


def test_every_bundle_file_and_model_is_in_the_wheel(root):
    for path in (ROOT / "bundles").rglob("*"):
        if path.suffix in (".json", ".conf", ".safetensors") and path.parent.name != "overrides":
            assert (root / path.relative_to(ROOT / "bundles")).read_bytes() == path.read_bytes()


def test_an_installed_wheel_trains_evaluates_and_segments_in_an_empty_folder(python, root, phantom_dir, tmp_path):
    def command(name, *options):
        config_file = root / "segnet.json"
        return run(python, "-m", "monai.bundle", "run", name, "--config_file", config_file, *options, folder=tmp_path)

    data, quick = ("--dataset_dir", phantom_dir), ("--spacing_mm", 4, "--batch_size", 8, "--slices", "lesion")
    command("training", "--epochs", 1, "--device", "cpu", *data, *quick)
    assert len(pd.read_csv(tmp_path / "runs/segnet_cce_dice/history.csv")) == 1
    command("evaluating", *data)
    assert (tmp_path / "runs/segnet_cce_dice/evaluation/held_out/scores.csv").is_file()

    scan = next(phantom_dir.rglob("*t1w*"))
    # Registration takes most of a minute, and has tests of its own.
    said = command("inference", "--scans", scan, "--results::register", "$None")
    assert "1 of 1 scans segmented, results in masks" in said
    mask = nib.load(next((tmp_path / "masks").rglob("*_label-lesion_mask.nii.gz")))
    truth = sum(np.asarray(nib.load(path).dataobj) > 0.5 for path in scan.parent.glob("*Lesion*")) > 0
    found = np.asarray(mask.dataobj) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.7, "the pretrained model is the default"
