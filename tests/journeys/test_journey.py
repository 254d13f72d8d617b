"""Journeys: one head in many orientations and formats, a folder with a bad scan, the command line itself."""

import json
import subprocess
import sys
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from dicom_files import write_series
from model_files import write_model
from nibabel.affines import apply_affine
from stand_ins import DarkIsLesion, tissue_is_brain

from strokelesion.networks import CommandLineError, UserError
from strokelesion.pipeline.inference import dicom
from strokelesion.pipeline.inference.registrations import RememberedRegistrations
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.transforms import CropToTissued

VOXELS_MM = (8.0, 7.0, 9.0)  # those of the fixture `oriented`


@pytest.fixture
def dark(run_command, tmp_path):
    """Run a command with the stand-in network, as if trained at some voxel size, on slices of some extent."""

    def run(command, spacing_mm, rim_px=0, size=None, slice_mm=(224, 256), intensities="tissue", **options):
        spacing_mm = (spacing_mm,) * 3 if isinstance(spacing_mm, int) else spacing_mm
        protocol = {"spacing_mm": spacing_mm, "slice_mm": slice_mm, "intensities": intensities}
        network, arguments = DarkIsLesion(rim_px, size=size), {"rim_px": rim_px, "size": size}
        model = write_model(tmp_path / "dark.pt", network, "stand_ins.DarkIsLesion", arguments, **protocol)
        trusted = {"network_def": {"_target_": "stand_ins.DarkIsLesion"}}
        run_command(command, "resunet", **{"amp": "false", "weights": model, **trusted, **options})

    return run


@pytest.fixture
def infer(dark, tmp_path):
    """Run inference with the stand-in network; returns the folder of the masks."""
    masks = tmp_path / "masks"

    def run(scans, spacing_mm=VOXELS_MM, **options):
        dark("inference", spacing_mm, scans=str(scans), output_dir=str(masks), **options)
        return masks

    return run


def mask_file(masks, name, ending="mask.nii.gz"):
    """Where the results of a scan lie that has no BIDS name."""
    return masks / f"sub-{name}/anat/sub-{name}_label-lesion_{ending}"


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
    volume_ml, center_mm = lesion_mm(nib.load(mask_file(masks, "RAS")))
    for name, item in oriented.items():
        scan, mask = nib.load(item["image"]), nib.load(mask_file(masks, name))
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)
        assert mask.get_data_dtype() == np.uint8
        agreement = overlap_with_truth(mask, item)
        if name == "oblique":
            assert agreement > 0.8
            continue
        assert agreement == 1, name
        volume, center = lesion_mm(mask)
        assert volume == pytest.approx(volume_ml)
        np.testing.assert_allclose(center, center_mm, atol=1e-3)


def overlap_with_truth(mask, item):
    truth = sum(np.asarray(nib.load(path).dataobj) for path in (item["main_mask"], *item["sub_masks"]))
    found = np.asarray(mask.dataobj) > 0
    return 2 * (found * truth).sum() / (found.sum() + truth.sum())


def test_other_voxel_sizes_than_the_networks_come_back_on_the_scans_grid(oriented, infer):
    item = oriented["PSL"]
    mask = nib.load(mask_file(infer(item["image"], spacing_mm=4, rim_px=1), "T1w"))
    assert mask.shape == nib.load(item["image"]).shape
    assert overlap_with_truth(mask, item) > 0.7


def test_native_scans_of_any_orientation_are_scored_on_their_own_grids(release_dir, dark, tmp_path):
    """R3.0's miniature: one anatomy as RAS, LAS, PSR, PSL in other voxel sizes; axial slices are found in each."""
    dark("evaluating", 2, rim_px=2, dataset_dir=str(release_dir("R3.0")), run_dir=str(tmp_path), scored="all")
    scores = pd.read_csv(tmp_path / "evaluation" / "all" / "scores.csv").query("lesion == 'main'")
    for name, least in {"dice": 0.6, "keras_dice": 0.6, "truth_ml": 40}.items():
        assert scores[name].min() > least, name
        assert scores[name].max() / scores[name].min() < 1.1, name


def test_two_sessions_of_a_subject_keep_their_own_predictions(release_dir, dark, tmp_path):
    """R1.1 names the scans of t01 and t02 alike."""
    dark("evaluating", 8, dataset_dir=str(release_dir("R1.1")), run_dir=str(tmp_path), scored="all")
    scores = pd.read_csv(tmp_path / "evaluation" / "all" / "scores.csv")
    masks = list((tmp_path / "evaluation" / "all" / "predictions").rglob("*_label-lesion_mask.nii.gz"))
    assert 3 * len(masks) == len(scores)
    sources = [json.loads(mask.with_name(f"{mask.name[:-7]}.json").read_text())["Sources"][0] for mask in masks]
    assert len(set(sources)) == len(masks)
    assert len({Path(source).name for source in sources}) < len(masks)


def test_mha_and_nrrd_are_read_as_nifti_is(oriented, infer, tmp_path):
    image = itk.imread(oriented["LPS"]["image"])
    folder = tmp_path / "formats"
    folder.mkdir()
    for suffix in ("mha", "nrrd", "nii"):
        itk.imwrite(image, str(folder / f"{suffix}.{suffix}"))
    masks = infer(folder)
    loaded = [nib.load(mask_file(masks, suffix)) for suffix in ("nii", "mha", "nrrd")]
    for other in loaded[1:]:
        assert np.array_equal(other.dataobj, loaded[0].dataobj)
        np.testing.assert_allclose(other.affine, loaded[0].affine, atol=1e-4)


def test_a_dicom_series_gives_the_lesion_that_nifti_gives(oriented, infer, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "LEAST_SLICES", 5)  # the miniature has few
    image = itk.imread(oriented["LPS"]["image"])
    values, direction = itk.array_from_image(image).T, itk.array_from_matrix(image.GetDirection())
    write_series(tmp_path / "dicom", values, tuple(image.GetSpacing()), tuple(image.GetOrigin()), direction)
    masks = infer(tmp_path / "dicom")
    infer(oriented["LPS"]["image"])
    (volume_ml, center_mm), (volume, center) = (
        lesion_mm(nib.load(mask_file(masks, name))) for name in ("T1w", "P0011t1mprage")
    )
    assert volume == pytest.approx(volume_ml, rel=0.01)
    np.testing.assert_allclose(center, center_mm, atol=1)


@pytest.mark.parametrize("overlap", [0, 0.5])
def test_heads_larger_than_the_window_are_predicted_whole(overlap, oriented, infer):
    """Windows tile a slice without a seam: the stand-in finds the same as through one window."""

    def found(**options):
        mask = mask_file(infer(oriented["LPS"]["image"], spacing_mm=4, overwrite="true", **options), "T1w")
        return np.asarray(nib.load(mask).dataobj)

    whole = found()
    assert whole.any()
    assert np.array_equal(found(slice_mm=[64, 80], overlap=overlap), whole)


@pytest.mark.parametrize("slice_mm", [[64, 80], [320, 288]])
def test_networks_see_slices_of_the_size_that_they_were_trained_on(slice_mm, oriented, infer):
    """Heads larger and smaller than a slice; in other windows, networks see lesions in the empty margin."""
    size = [extent_mm // 4 for extent_mm in slice_mm]
    mask = mask_file(infer(oriented["LPS"]["image"], spacing_mm=4, slice_mm=slice_mm, size=size), "T1w")
    assert np.asarray(nib.load(mask).dataobj).any()


@pytest.fixture
def brain_weights(tmp_path):
    """Weights for the bundles' brain network that call all tissue in one piece brain."""
    arguments = {"out_channels": 2, "channels": [8, 16, 32, 64, 128]}
    path = tmp_path / "weights" / "brain.safetensors"
    return write_model(path, tissue_is_brain(), "strokelesion.networks.UNet", arguments, spacing_mm=(2.0, 2.0, 2.0))


def no_place(*_):
    raise UserError("no place in MNI space")


def test_lesions_are_found_in_the_brain_only(oriented, infer, brain_weights, tmp_path, monkeypatch):
    """A gray ball beside the head is lesion to the stand-in, until predictions keep to the brain."""
    # An ellipsoid has no place in MNI space, and it takes long to say so.
    monkeypatch.setattr(RememberedRegistrations, "__call__", no_place)
    item = oriented["LPS"]
    scan = nib.load(item["image"])
    values = np.asarray(scan.dataobj).copy()
    ball = np.s_[-3:-1, -4:-1, -4:-1]
    assert not values[ball].any()
    values[ball] = 25
    nib.save(nib.Nifti1Image(values, scan.affine), tmp_path / "ball.nii.gz")

    def found(**options):
        return nib.load(mask_file(infer(tmp_path / "ball.nii.gz", **options), "ball"))

    assert np.asarray(found().dataobj)[ball].all()
    kept = found(intensities="brain", brain_weights=brain_weights)
    assert not np.asarray(kept.dataobj)[ball].any()
    assert overlap_with_truth(kept, item) == 1


def test_the_brain_is_kept_on_request_with_the_surface_that_a_second_network_draws(
    oriented, infer, brain_weights, tmp_path, monkeypatch
):
    """The stand-in calls all of this head brain, lesion and all."""
    monkeypatch.setattr(RememberedRegistrations, "__call__", no_place)
    wanted = {"intensities": "brain", "brain_weights": brain_weights, "save_brain": "true"}
    scan = nib.load(oriented["LPS"]["image"])
    masks = infer(oriented["LPS"]["image"], surface_weights=brain_weights, **wanted)
    brain = nib.load(masks / "sub-T1w/anat/sub-T1w_desc-brain_mask.nii.gz")
    assert np.array_equal(brain.affine, scan.affine)
    found, tissue = np.asarray(brain.dataobj) > 0, np.asarray(scan.dataobj) > 0
    assert 2 * (found & tissue).sum() / (found.sum() + tissue.sum()) > 0.9
    with pytest.raises(RuntimeError) as error:
        infer(oriented["LPS"]["image"], surface_weights="/nowhere/surface.safetensors", **wanted)
    assert "no model at /nowhere/surface.safetensors" in str(user_error(error.value))


def test_brain_weights_are_opened_only_where_they_are_needed(oriented, infer):
    infer(oriented["RAS"]["image"], intensities="tissue", brain_weights="/nowhere/brain.safetensors")
    with pytest.raises(RuntimeError) as error:
        infer(oriented["RAS"]["image"], intensities="brain", brain_weights="/nowhere/brain.safetensors")
    assert "no model at /nowhere/brain.safetensors" in str(user_error(error.value))


def test_probabilities_are_kept_on_request_and_agree_with_the_mask(oriented, infer):
    masks = infer(oriented["LAS"]["image"], save_probabilities="true")
    probability = nib.load(mask_file(masks, "T1w", "probseg.nii.gz"))
    mask = nib.load(mask_file(masks, "T1w"))
    assert np.array_equal(probability.affine, mask.affine)
    assert np.array_equal(np.asarray(probability.dataobj) >= 0.5, np.asarray(mask.dataobj) > 0)


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
    assert masks == [str(mask_file(Path(), name)) for name in ("PSRT1", "RAST1")]
    failures = pd.read_csv(tmp_path / "masks/failures.tsv", sep="\t")
    assert failures["scan"].tolist() == [str(folder / "broken.nii.gz")]
    assert "broken" in failures["reason"][0]


def test_scans_that_are_done_are_left_alone(oriented, infer, capsys):
    masks = infer(oriented["RAS"]["image"])
    made = mask_file(masks, "T1w").stat().st_mtime_ns
    infer(oriented["RAS"]["image"])
    assert "1 of 1 scans segmented, 1 of them before" in capsys.readouterr().out
    assert mask_file(masks, "T1w").stat().st_mtime_ns == made
    infer(oriented["RAS"]["image"], overwrite="true")
    assert mask_file(masks, "T1w").stat().st_mtime_ns > made
    infer(oriented["RAS"]["image"], threshold=0.6)
    assert "1 of 1 scans segmented, results" in capsys.readouterr().out


def test_a_scan_that_was_done_and_now_fails_is_in_no_table(oriented, infer, tmp_path):
    scan = tmp_path / "head.nii.gz"
    scan.write_bytes(Path(oriented["RAS"]["image"]).read_bytes())
    volumes = infer(scan) / "volumes.tsv"
    assert len(pd.read_csv(volumes, sep="\t")) == 1
    scan.write_bytes(b"no image any more")
    with pytest.raises(SystemExit):
        infer(scan)
    assert pd.read_csv(volumes, sep="\t").empty


def test_a_fault_in_a_transform_is_logged_with_its_traceback_and_the_rest_go_on(oriented, infer, tmp_path, caplog, monkeypatch):
    """A KeyError is no sentence for a user: whoever reports it needs the lines of code that it came from."""
    crop = CropToTissued.__call__

    def stumble(self, sample, **lazy):
        return sample["no such key"] if "PSR" in sample["image"].meta["filename_or_obj"] else crop(self, sample, **lazy)

    monkeypatch.setattr(CropToTissued, "__call__", stumble)
    folder = tmp_path / "new"
    folder.mkdir()
    for name in ("LAS", "PSR", "RAS"):
        (folder / f"{name}.nii.gz").symlink_to(oriented[name]["image"])
    with pytest.raises(SystemExit) as stop:
        infer(folder)
    assert stop.value.code == 1
    masks = sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.nii.gz"))
    assert masks == [str(mask_file(Path(), name)) for name in ("LAS", "RAS")]
    (failed,) = pd.read_csv(tmp_path / "masks/failures.tsv", sep="\t").to_dict("records")
    assert failed == {"scan": str(folder / "PSR.nii.gz"), "reason": "KeyError: 'no such key'"}
    (record,) = [record for record in caplog.records if record.exc_info]
    assert str(folder / "PSR.nii.gz") in record.getMessage()
    assert "in stumble" in caplog.text
    assert "KeyError: 'no such key'" in caplog.text


@pytest.mark.parametrize("option", [{"spacing_mm": 2}, {"planes": "axial,coronal"}, {"fold": 1}])
def test_inference_takes_no_option_that_the_model_decides(option, oriented, run_command, tmp_path):
    (name,) = option
    with pytest.raises(RuntimeError) as error:
        run_command("inference", "resunet", scans=oriented["RAS"]["image"], output_dir=str(tmp_path / "masks"), **option)
    said = user_error(error.value)
    assert isinstance(said, CommandLineError)
    assert f"got the option --{name}, which inference does not take. The model itself says it. Allowed are " in str(said)
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (["train"], "error: got the command 'train'; allowed are training, evaluating, inference, release, export, doctor,", 2),
        (["training", "--loss", "dise"], "error: --loss got 'dise'; allowed are cce, dice, cce_dice, cce_lesion.", 2),
        (["inference", "--scans", "/nowhere"], "error: found no scan at /nowhere", 1),
        (["training", "--dataset_dir", "/nowhere", "--run_dir", "run"], "error: /nowhere is not a folder.", 1),
        (["inference", "--scans", "/nowhere", "--spacing_mm", "2"], "error: got the option --spacing_mm, which inference", 2),
    ],
)
def test_the_command_line_answers_mistakes_in_one_line(words, message, status, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", *words, "--config_file", str(ROOT / "bundles/resunet.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
