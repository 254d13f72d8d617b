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

PACKAGED = ("networks", "transforms", "pipeline", "bundles", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


def run(*words, folder, **environment):
    """Run a program in a folder, with nothing of the checkout on its path; return what it prints."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [*map(str, words)], cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that holds the wheel, and the other packages of this one."""
    source, wheels, folder = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "environment"))
    for name in PACKAGED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({"ignore": IGNORED} if (ROOT / name).is_dir() else {}))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source, folder=wheels)
    venv.create(folder, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # Packages of a folder that a .pth file names are found; its own .pth files, such as that of the checkout, are not read.
    (own / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run(*pip, "install", "--quiet", "--no-deps", "--target", own, next(wheels.glob("*.whl")), folder=wheels)
    return folder / "bin" / "python"


def bundle_root(python, folder):
    """Return where the installed bundle files are."""
    program = (
        "from strokelesion.pipeline.options import workflow; import strokelesion;"
        "print(*strokelesion.__path__, workflow.bundle_root())"
    )
    *packages, root = run(python, "-c", program, folder=folder).split()
    assert all(Path(package).is_relative_to(python.parent.parent) for package in packages)
    return root


def test_an_installed_wheel_trains_evaluates_and_segments_in_an_empty_folder(python, phantom_dir, tmp_path):
    root = bundle_root(python, tmp_path)
    run_bundle = (python, "-m", "monai.bundle", "run")
    quick = ("--dataset_dir", phantom_dir, "--spacing_mm", 4, "--batch_size", 8, "--device", "cpu", "--slices", "lesion")
    run(*run_bundle, "training", "--config_file", f"{root}/segnet.json", "--epochs", 1, *quick, folder=tmp_path)
    assert len(pd.read_csv(tmp_path / "runs/segnet_cce_dice/history.csv")) == 1
    run(*run_bundle, "evaluating", "--config_file", f"{root}/segnet.json", "--dataset_dir", phantom_dir, folder=tmp_path)
    assert (tmp_path / "runs/segnet_cce_dice/evaluation/held_out/scores.csv").is_file()

    scan = next(phantom_dir.rglob("*t1w*"))
    said = run(*run_bundle, "inference", "--config_file", f"{root}/segnet.json", "--scans", scan, folder=tmp_path)
    assert "1 of 1 scans segmented, results in masks" in said
    mask = nib.load(next((tmp_path / "masks").rglob("*_label-lesion_mask.nii.gz")))
    truth = sum(np.asarray(nib.load(path).dataobj) > 0.5 for path in scan.parent.glob("*Lesion*")) > 0
    found = np.asarray(mask.dataobj) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.7, "the pretrained model is the default"


def test_every_bundle_file_and_model_is_in_the_wheel(python, tmp_path):
    root = Path(bundle_root(python, tmp_path))
    for path in (ROOT / "bundles").rglob("*"):
        if path.suffix in (".json", ".conf", ".safetensors") and path.parent.name != "overrides":
            assert (root / path.relative_to(ROOT / "bundles")).read_bytes() == path.read_bytes()
