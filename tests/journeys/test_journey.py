"""Journeys: one head in many orientations and formats, a folder with bad scans, the command line itself."""

import json
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dicom_files import write_series
from model_files import write_model
from nibabel.affines import apply_affine
from refusals import refusal
from stand_ins import DarkIsLesion, tissue_is_brain

from strokelesion.networks import ResUNet, UserError
from strokelesion.pipeline.finding import dicom
from strokelesion.pipeline.lesions.registrations import RememberedRegistrations
from strokelesion.transforms import CropToTissued
from strokelesion.transforms.registration import Registration

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


def link(folder, oriented, *names):
    """Put scans into a folder under their own names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.nii.gz").symlink_to(oriented[name]["image"])
    return folder


def mask_file(masks, name, ending="mask.nii.gz"):
    """Where the results of a scan lie that has no BIDS name."""
    return masks / f"sub-{name}/anat/sub-{name}_label-lesion_{ending}"


def values(path):
    return np.asarray(nib.load(path).dataobj)


def lesion_mm(inside, affine):
    """Return volume in ml and centroid in mm."""
    return inside.sum() * abs(np.linalg.det(affine)) / 1000, apply_affine(affine, np.argwhere(inside)).mean(axis=0)


def truth_of(item):
    return sum(values(path) for path in (item["main_mask"], *item["sub_masks"])) > 0


def dice_with_truth(mask, item):
    truth, found = truth_of(item), np.asarray(mask.dataobj) > 0
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def test_one_head_in_six_orientations_gives_one_lesion_each_in_its_own_grid(oriented, infer, tmp_path):
    """No brain model is opened where none is needed; probabilities are kept on request and agree with the mask."""
    wanted = {"save_probabilities": "true", "brain_weights": "/nowhere/brain.safetensors"}
    masks = infer(link(tmp_path / "links", oriented, *oriented), **wanted)
    for name, item in oriented.items():
        scan, mask = nib.load(item["image"]), nib.load(mask_file(masks, name))
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)
        assert mask.get_data_dtype() == np.uint8
        assert dice_with_truth(mask, item) == 1 if name != "oblique" else dice_with_truth(mask, item) > 0.8
        probability = nib.load(mask_file(masks, name, "probseg.nii.gz"))
        assert np.array_equal(probability.affine, mask.affine)
        assert np.array_equal(np.asarray(probability.dataobj) >= 0.5, np.asarray(mask.dataobj) > 0)


def test_scans_of_a_cohort_are_predicted_as_alone(oriented, run_command, tmp_path):
    """While one goes back to its own grid, the next one leaves its own, through the same transforms."""
    arguments = {"channels": [4, 8]}
    model = write_model(tmp_path / "fresh.pt", ResUNet(**arguments), "strokelesion.networks.ResUNet", arguments)

    def predicted(folder, name):
        where = {"scans": str(folder), "output_dir": str(tmp_path / name), "weights": model}
        run_command("inference", "resunet", save_probabilities=True, amp=False, pages=False, **where)
        return [values(path) for path in sorted((tmp_path / name).rglob("*probseg.nii.gz"))]

    both = ("PSR", "oblique")
    together = predicted(link(tmp_path / "in", oriented, *both), "together")
    alone = [predicted(tmp_path / f"in/{name}.nii.gz", name) for name in both]
    assert all(np.array_equal(one, other) for one, (other,) in zip(together, alone, strict=True))


def test_other_voxel_sizes_than_the_networks_come_back_on_the_scans_grid(oriented, infer):
    item = oriented["PSL"]
    mask = nib.load(mask_file(infer(item["image"], spacing_mm=4, rim_px=1), "T1w"))
    assert mask.shape == nib.load(item["image"]).shape
    assert dice_with_truth(mask, item) > 0.7


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
    sidecars = list((tmp_path / "evaluation" / "all" / "predictions").rglob("*_label-lesion_mask.json"))
    assert 3 * len(sidecars) == len(scores)
    sources = [json.loads(sidecar.read_text())["Sources"][0] for sidecar in sidecars]
    assert len(set(sources)) == len(sidecars) > len({Path(source).name for source in sources})


def test_a_dicom_series_gives_the_lesion_of_the_same_grid(oriented, infer, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "LEAST_SLICES", 5)  # the miniature has few
    item = oriented["LPS"]
    image = itk.imread(item["image"])
    direction = itk.array_from_matrix(image.GetDirection())
    shown = 10 * itk.array_from_image(image).T.astype(float)  # in whole numbers, a scan needs more than a label map has
    write_series(tmp_path / "dicom", shown, tuple(image.GetSpacing()), tuple(image.GetOrigin()), direction)
    mask = nib.load(mask_file(infer(tmp_path / "dicom"), "P0011t1mprage"))
    volume_ml, center_mm = lesion_mm(truth_of(item), nib.load(item["image"]).affine)
    volume, center = lesion_mm(np.asarray(mask.dataobj) > 0, mask.affine)
    assert volume == pytest.approx(volume_ml, rel=0.01)
    np.testing.assert_allclose(center, center_mm, atol=1)


def test_heads_larger_and_smaller_than_the_window_are_predicted_whole(oriented, infer):
    """Windows tile a slice without a seam, and networks see slices of the size that they were trained on."""

    def found(slice_mm, overlap=0):
        size = [extent_mm // 4 for extent_mm in slice_mm]
        options = {"slice_mm": slice_mm, "size": size, "overlap": overlap, "overwrite": "true", "pages": False}
        return values(mask_file(infer(oriented["LPS"]["image"], spacing_mm=4, **options), "T1w"))

    whole = found([224, 256])
    assert whole.any()
    for slice_mm, overlap in (([64, 80], 0), ([64, 80], 0.5), ([320, 288], 0)):
        assert np.array_equal(found(slice_mm, overlap), whole)


def test_lesions_are_found_in_the_brain_only_which_is_kept_on_request(oriented, infer, tmp_path, monkeypatch):
    """A gray ball beside the head is lesion to the stand-in, until predictions keep to the brain, which is the rest here."""

    def no_place(*_):
        raise UserError("no place in MNI space")

    # An ellipsoid has no place in MNI space, and it takes long to say so.
    monkeypatch.setattr(RememberedRegistrations, "__call__", no_place)
    arguments = {"out_channels": 2, "channels": [8, 16, 32, 64, 128]}
    target, path = "strokelesion.networks.UNet", tmp_path / "weights" / "brain.safetensors"
    weights = write_model(path, tissue_is_brain(), target, arguments, spacing_mm=(2.0, 2.0, 2.0))
    scan = nib.load(oriented["LPS"]["image"])
    image = np.asarray(scan.dataobj).copy()
    ball = np.s_[-3:-1, -4:-1, -4:-1]
    assert not image[ball].any()
    image[ball] = 25
    nib.save(nib.Nifti1Image(image, scan.affine), tmp_path / "ball.nii.gz")
    assert values(mask_file(infer(tmp_path / "ball.nii.gz"), "ball"))[ball].all()
    wanted = {"intensities": "brain", "brain_weights": weights, "save_brain": "true"}
    masks = infer(tmp_path / "ball.nii.gz", surface_weights=weights, **wanted)
    kept = nib.load(mask_file(masks, "ball"))
    assert not np.asarray(kept.dataobj)[ball].any()
    assert dice_with_truth(kept, oriented["LPS"]) == 1
    brain = nib.load(masks / "sub-ball/anat/sub-ball_desc-brain_mask.nii.gz")
    assert np.array_equal(brain.affine, scan.affine)
    found, tissue = np.asarray(brain.dataobj) > 0, np.asarray(scan.dataobj) > 0
    assert 2 * (found & tissue).sum() / (found.sum() + tissue.sum()) > 0.9
    for name in ("brain_weights", "surface_weights"):
        said = refusal(infer, oriented["LPS"]["image"], **{**wanted, name: "/nowhere/model.safetensors"})
        assert "no model at /nowhere/model.safetensors" in said


def test_no_output_option_changes_another_output(oriented, infer, tmp_path, monkeypatch):
    """Masks and tables are the same, byte by byte, whatever else is written."""
    monkeypatch.setattr(RememberedRegistrations, "__call__", lambda *_: Registration(np.eye(4), 0.9))
    arguments = {"out_channels": 2, "channels": [8, 16, 32, 64, 128]}
    path = tmp_path / "weights" / "brain.safetensors"
    brain = write_model(path, tissue_is_brain(), "strokelesion.networks.UNet", arguments, spacing_mm=(2.0, 2.0, 2.0))
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([200.0, 200, 200, 1])), tmp_path / "atlas.nii")
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tall\n")
    (tmp_path / "rois").mkdir()
    roi = nib.Nifti1Image(np.ones((20, 20, 20), np.uint8), np.eye(4))
    roi.set_sform(np.eye(4), 4)
    nib.save(roi, tmp_path / "rois/box.nii.gz")
    options = [
        *({name: "true"} for name in ("save_probabilities", "save_brain", "fill", "dicom_seg", "pages")),
        {"mni": "fsl"},
        {"rois": str(tmp_path / "rois")},
        {"for_fmriprep": str(tmp_path / "overlay")},
        {"atlas": str(tmp_path / "atlas.nii"), "atlas_labels": str(tmp_path / "atlas.tsv")},
    ]
    everything = {name: value for option in options for name, value in option.items()}

    def outputs(**wanted):
        masks = infer(oriented["oblique"]["image"], intensities="brain", brain_weights=brain, **{"pages": "false", **wanted})
        files = {path.relative_to(masks).as_posix(): path.read_bytes() for path in masks.rglob("*") if path.is_file()}
        return {name: content for name, content in files.items() if not name.endswith("json") and name != ".lock"}

    alone, together = outputs(), outputs(**everything)
    assert np.asarray(nib.load(mask_file(tmp_path / "masks", "T1w")).dataobj).any()
    for other in (*(outputs(**option) for option in options), together):
        assert {name: content for name, content in other.items() if name in alone} == alone
    assert {"sub-T1w/anat/sub-T1w_desc-brain_mask.nii.gz", "index.html", "regions.tsv"} <= set(together) - set(alone)


def test_bad_scans_are_reported_and_the_rest_go_on(oriented, infer, tmp_path, capsys, caplog, monkeypatch):
    """One is no image, and one meets a fault in a transform; whoever reports that needs the lines of code that it came from."""
    crop = CropToTissued.__call__

    def stumble(self, sample, **lazy):
        return sample["no such key"] if "PSR" in sample["image"].meta["filename_or_obj"] else crop(self, sample, **lazy)

    monkeypatch.setattr(CropToTissued, "__call__", stumble)
    folder = link(tmp_path / "new", oriented, "LAS", "PSR")
    link(folder / "deeper", oriented, "RAS")
    (folder / "broken.nii.gz").write_bytes(b"not an image")
    with pytest.raises(SystemExit) as stop:
        infer(folder)
    assert stop.value.code == 1
    assert "2 of 4 scans segmented" in capsys.readouterr().out
    masks = sorted(path.relative_to(tmp_path / "masks") for path in (tmp_path / "masks").rglob("*_mask.nii.gz"))
    assert masks == [mask_file(Path(), name) for name in ("LAS", "deeperRAS")]
    failures = pd.read_csv(tmp_path / "masks/failures.tsv", sep="\t").set_index("scan")["reason"]
    assert list(failures.index) == [str(folder / "PSR.nii.gz"), str(folder / "broken.nii.gz")]
    assert failures.iloc[0] == "KeyError: 'no such key'"
    assert "broken" in failures.iloc[1]
    assert "broken.nii.gz failed" in caplog.text
    (record,) = [record for record in caplog.records if record.exc_info]
    assert str(folder / "PSR.nii.gz") in record.getMessage()
    assert "in stumble" in caplog.text


def test_scans_that_are_done_are_left_alone_and_one_that_now_fails_is_in_no_table(oriented, infer, tmp_path, capsys):
    scan = tmp_path / "head.nii.gz"
    scan.write_bytes(Path(oriented["RAS"]["image"]).read_bytes())
    masks = infer(scan)
    made = mask_file(masks, "head").stat().st_mtime_ns
    infer(scan)
    assert "1 of 1 scans segmented, 1 of them before" in capsys.readouterr().out
    assert mask_file(masks, "head").stat().st_mtime_ns == made
    infer(scan, overwrite="true")
    assert mask_file(masks, "head").stat().st_mtime_ns > made
    infer(scan, threshold=0.6)
    assert "1 of 1 scans segmented, results" in capsys.readouterr().out
    assert len(pd.read_csv(masks / "volumes.tsv", sep="\t")) == 1
    scan.write_bytes(b"no image any more")
    with pytest.raises(SystemExit):
        infer(scan, threshold=0.6)
    assert pd.read_csv(masks / "volumes.tsv", sep="\t").empty
