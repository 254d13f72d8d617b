"""Journeys: one head in many orientations and formats, a folder with a bad scan, the command line itself."""

import subprocess
import sys

import itk
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from atlas import anatomy, grid, save_nifti
from nibabel.affines import apply_affine
from scipy import ndimage
from stand_ins import DarkIsLesion

from strokelesion.pipeline.training import save_checkpoint

VOXELS_MM = [8.0, 7.0, 9.0]  # those of the fixture `oriented`


@pytest.fixture
def dark_checkpoint(tmp_path):
    save_checkpoint({"network_name": "DarkIsLesion", "network": DarkIsLesion().state_dict()}, tmp_path / "dark.pt")
    return tmp_path / "dark.pt"


@pytest.fixture
def infer(run_verb, dark_checkpoint, tmp_path):
    """Run inference with the stand-in network; returns the folder of the masks."""
    masks = tmp_path / "masks"

    def run(scans, **knobs):
        definition = {"_target_": "stand_ins.DarkIsLesion"}
        where = {"scans": str(scans), "output_dir": str(masks), "checkpoint": str(dark_checkpoint)}
        run_verb("inference", "resunet", network_def=definition, **{"amp": "false", "spacing_mm": VOXELS_MM, **where, **knobs})
        return masks

    return run


def lesion_mm(mask):
    """Return volume in ml and centroid in mm of a mask file."""
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)
    return len(inside) * abs(np.linalg.det(mask.affine)) / 1000, apply_affine(mask.affine, inside).mean(axis=0)


def test_one_head_in_six_orientations_gives_one_lesion_each_in_its_own_grid(oriented, infer, tmp_path):
    root = tmp_path / "links"
    root.mkdir()
    for name, item in oriented.items():
        (root / f"{name}.nii.gz").symlink_to(item["image"])
    masks = infer(root)
    volume_ml, center_mm = lesion_mm(nib.load(masks / "RAS_lesion.nii.gz"))
    for name, item in oriented.items():
        scan, mask = nib.load(item["image"]), nib.load(masks / f"{name}_lesion.nii.gz")
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)
        assert mask.get_data_dtype() == np.uint8
        truth = sum(np.asarray(nib.load(path).dataobj) for path in (item["main_mask"], *item["sub_masks"]))
        found = np.asarray(mask.dataobj)
        if name == "oblique":
            assert 2 * (found * truth).sum() / (found.sum() + truth.sum()) > 0.8
            continue
        assert np.array_equal(found, truth), name
        volume, center = lesion_mm(mask)
        assert volume == pytest.approx(volume_ml)
        np.testing.assert_allclose(center, center_mm, atol=1e-3)


def test_other_voxel_sizes_than_the_networks_come_back_on_the_scans_grid(oriented, infer):
    item = oriented["PSL"]
    masks = infer(item["image"], spacing_mm=4)
    mask = nib.load(masks / "T1w_lesion.nii.gz")
    truth = sum(np.asarray(nib.load(path).dataobj) for path in (item["main_mask"], *item["sub_masks"]))
    # The rim of the head is gray after interpolation and dark enough for the stand-in: look at the lesions' inside.
    assert mask.shape == truth.shape
    assert np.asarray(mask.dataobj)[ndimage.binary_erosion(truth)].all()


def test_native_scans_of_any_orientation_are_scored_on_their_own_grids(release_dir, run_verb, dark_checkpoint, tmp_path):
    """R3.0's miniature: one anatomy as RAS, LAS, PSR, PSL in other voxel sizes; axial slices are found in each.

    The stand-in also takes the interpolated rim of the head for lesion, so the scores are alike rather than perfect.
    """
    run_dir = tmp_path / "run"
    definition = {"_target_": "stand_ins.DarkIsLesion"}
    where = {"dataset_dir": str(release_dir("R3.0")), "run_dir": str(run_dir), "checkpoint": str(dark_checkpoint)}
    run_verb("evaluating", "unet", network_def=definition, amp="false", scored="all", spacing_mm=2, **where)
    scores = pd.read_csv(run_dir / "evaluation" / "scores.csv")
    for name, least in {"dice_main": 0.6, "seed_slice_dice_main": 0.6, "truth_main_ml": 40}.items():
        assert scores[name].min() > least, name
        assert scores[name].max() / scores[name].min() < 1.1, name


def test_two_sessions_of_a_subject_keep_their_own_predictions(release_dir, run_verb, dark_checkpoint, tmp_path):
    """R1.1 names the scans of t01 and t02 alike."""
    definition = {"_target_": "stand_ins.DarkIsLesion"}
    where = {"dataset_dir": str(release_dir("R1.1")), "run_dir": str(tmp_path), "checkpoint": str(dark_checkpoint)}
    run_verb("evaluating", "unet", network_def=definition, amp="false", scored="all", spacing_mm=8, folds=2, **where)
    masks = list((tmp_path / "evaluation").rglob("*_lesion.nii.gz"))
    assert len(masks) == len(pd.read_csv(tmp_path / "evaluation" / "scores.csv"))
    assert len({mask.name for mask in masks}) < len(masks)


def test_mha_and_nrrd_are_read_as_nifti_is(oriented, infer, tmp_path):
    image = itk.imread(oriented["LPS"]["image"])
    folder = tmp_path / "formats"
    folder.mkdir()
    for suffix in ("mha", "nrrd", "nii"):
        itk.imwrite(image, str(folder / f"{suffix}.{suffix}"))
    masks = infer(folder)
    loaded = [nib.load(masks / f"{suffix}_lesion.nii.gz") for suffix in ("nii", "mha", "nrrd")]
    for other in loaded[1:]:
        assert np.array_equal(other.dataobj, loaded[0].dataobj)
        np.testing.assert_allclose(other.affine, loaded[0].affine, atol=1e-4)


def test_heads_larger_than_the_window_are_predicted_whole(infer, tmp_path):
    """Windows tile a slice: a lesion that no single window holds is found from edge to edge."""
    shape, affine = grid("RAS", (80, 96, 9), (2.0, 2.0, 16.0))
    t1, main, sub = anatomy(shape, affine)
    save_nifti(tmp_path / "large" / "T1w.nii.gz", t1, affine)
    for overlap in (0, 0.5):
        masks = infer(tmp_path / "large", window_mm=[64, 80], overlap=overlap, spacing_mm=[2, 2, 10])
        found = np.asarray(nib.load(masks / "T1w_lesion.nii.gz").dataobj)
        inside = ndimage.binary_erosion(main | sub, np.ones((3, 3, 3)))
        assert found[inside].all()


def test_probabilities_are_kept_on_request_and_agree_with_the_mask(oriented, infer):
    masks = infer(oriented["LAS"]["image"], save_probabilities="true")
    probabilities = nib.load(masks / "T1w_probabilities.nii.gz")
    values = np.asarray(probabilities.dataobj)
    assert probabilities.shape == (*nib.load(oriented["LAS"]["image"]).shape, 3)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
    assert np.array_equal(values.argmax(-1), np.asarray(nib.load(masks / "T1w_lesion.nii.gz").dataobj))


def test_one_unreadable_scan_is_reported_and_the_rest_go_on(oriented, infer, tmp_path, capsys, caplog):
    folder = tmp_path / "new"
    for name in ("RAS", "PSR"):
        (folder / name).mkdir(parents=True)
        (folder / name / "T1.nii.gz").symlink_to(oriented[name]["image"])
    (folder / "broken.nii.gz").write_bytes(b"not an image")
    with pytest.raises(SystemExit) as stop:
        infer(folder)
    assert stop.value.code == 1
    assert "2 of 3 scans segmented" in capsys.readouterr().out
    assert "broken.nii.gz failed" in caplog.text
    masks = sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.nii.gz"))
    assert masks == ["PSR/T1_lesion.nii.gz", "RAS/T1_lesion.nii.gz"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "error: got the verb 'train'; allowed are training, evaluating, inference."),
        (["training", "--loss", "dise"], "error: --loss got 'dise'; allowed are cce, dice, cce_dice."),
        (["inference", "--scans", "/nowhere"], "error: found no scan at /nowhere"),
        (["training", "--dataset_dir", "/nowhere"], "error: /nowhere is not a folder."),
    ],
)
def test_the_command_line_answers_mistakes_in_one_line(words, message, at_root, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", *words, "--config_file", "bundles/resunet.json"]
    done = subprocess.run([*command, "--run_dir", str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
