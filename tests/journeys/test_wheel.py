"""The wheel by itself: installed without the checkout, it trains and segments in an empty folder."""

import sys
import sysconfig
import venv
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from built_wheel import PIP, build_wheel, run
from checkout import ROOT


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that holds the wheel, and the other packages of this one."""
    source, wheels, folder = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "environment"))
    wheel = build_wheel(source, wheels)
    venv.create(folder, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # Packages of a folder that a .pth file names are found; its own .pth files, such as that of the checkout, are not read.
    (own / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run(sys.executable, *PIP, "install", "--quiet", "--no-deps", "--target", own, wheel, folder=wheels)
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


def test_the_installed_program_makes_and_segments_a_scan(python, tmp_path):
    program = (
        "import sys; from importlib.metadata import entry_points\n"
        "(entry,) = entry_points(group='console_scripts', name='strokelesion'); entry.load()(sys.argv[1:])"
    )
    said = run(python, "-c", program, "demo", "here", "--results::register", "$None", folder=tmp_path)
    assert "1 of 1 scans segmented, results in here/results" in said
    assert "strokelesion" in run(python, "-c", program, "--version", folder=tmp_path)
    lesions = pd.read_csv(tmp_path / "here/results/lesions.tsv", sep="\t")
    assert f"{lesions['volume_ml'][0]:.3f}" in said
    assert 40 < lesions["volume_ml"][0] < 60
    assert (tmp_path / "here/results/index.html").is_file()


def test_an_installed_wheel_packages_the_pretrained_models(python, root, tmp_path):
    """The model card and the license are in the wheel."""
    for bundle, weights in (("resunet", "pretrained"), ("brain", "brain")):
        options = ("--config_file", root / f"{bundle}.json", "--weights", weights, "--output_dir", "bundles")
        run(python, "-m", "monai.bundle", "run", "package", *options, folder=tmp_path)
    for folder in ("strokelesion_mri_segmentation", "strokelesion_brain_mri_segmentation"):
        program = f"import monai.bundle; print(monai.bundle.load({folder!r}, bundle_dir='bundles', workflow_type='inference'))"
        assert "Conv2d" in run(python, "-c", program, folder=tmp_path)
        assert "Apache License" in (tmp_path / "bundles" / folder / "LICENSE").read_text()
        assert "SynthSeg" in (tmp_path / "bundles" / folder / "docs/data_license.txt").read_text()
