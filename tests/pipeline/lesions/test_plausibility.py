"""What is no T1 of a whole head is refused, or has a warning and no volume of 0 ml; T1 scans pass without a word."""

import json
from dataclasses import replace
from functools import cache

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import small_head
import torch
from dicom_files import write_series
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import name_scans
from strokelesion.pipeline.finding.acquisition import doubts_of_metadata, doubts_of_name, objection_to_metadata, sidecar_of
from strokelesion.pipeline.finding.scans import find_scans
from strokelesion.pipeline.inference.results import Results
from strokelesion.pipeline.lesions.lesion_table import SegmentedScan
from strokelesion.pipeline.lesions.plausibility import (
    doubts_of_image,
    doubts_of_item,
    notes_of_reading,
    refuse_other_images,
)
from strokelesion.transforms import DecideLesionsd
from strokelesion.transforms.geometry import look_up
from strokelesion.transforms.headers import ANALYZE
from strokelesion.transforms.registration import Registration
from strokelesion.transforms.synthesis import Tissue

T1 = {"SeriesDescription": "t1_mprage_sag", "EchoTime": 0.0029, "RepetitionTime": 2.3, "InversionTime": 0.9, "Modality": "MR"}
BRAIN = (Tissue.WHITE, Tissue.CORTEX, Tissue.HIPPOCAMPUS, Tissue.VENTRICLE, Tissue.CSF)
# Brightness of white matter, gray matter, fluid, bone, soft tissue and air.
CONTRASTS = {
    "T1": (110, 75, 25, 4, 60, 0),
    "T2": (60, 85, 190, 10, 90, 0),
    "FLAIR": (80, 100, 14, 5, 75, 0),
    "CT": (28, 36, 5, 900, 20, -1000),
    "water": (100, 100, 100, 100, 100, 0),
}


@cache
def tissues():
    """Return the tissue map of the small head with gray matter, white matter and fluid where the template has them."""
    codes, inside = small_head.tissues(), brain()
    positions = apply_affine(small_head.affine().numpy(), np.argwhere(inside))
    templates = (load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1))
    gray, white = (look_up(np.asarray(template.dataobj), template.affine, positions) for template in templates)
    kinds = [int(Tissue.CSF), int(Tissue.CORTEX), int(Tissue.WHITE)]
    values = torch.tensor(kinds)[np.argmax([1 - gray - white, gray, white], axis=0)].numpy().astype(np.uint8)
    codes[0][torch.from_numpy(inside)] = torch.from_numpy(values)
    return codes


def head(contrast, noise=3.0, offset=0.0):
    """Return the small head `(1, X, Y, Z)` in another contrast."""
    white, gray, fluid, bone, soft, air = CONTRASTS[contrast]
    levels = torch.zeros(len(Tissue))
    known = {Tissue.WHITE: white, Tissue.CORTEX: gray, Tissue.HIPPOCAMPUS: gray, Tissue.VENTRICLE: fluid, Tissue.CSF: fluid}
    for tissue, level in {**known, Tissue.BONE: bone, Tissue.SOFT: soft, Tissue.SKIN: soft, Tissue.AIR: air}.items():
        levels[int(tissue)] = level
    codes = tissues()
    spread = noise * torch.rand(codes.shape, generator=torch.Generator().manual_seed(0))
    return MetaTensor(levels[codes.as_tensor().long()] + spread + offset, affine=codes.affine)


def brain():
    return np.isin(small_head.tissues().numpy()[0], [int(tissue) for tissue in BRAIN])


def segmented(labels=None):
    """Return the segmentation of the small head, which lies in MNI space."""
    labels = np.zeros(small_head.SHAPE, np.uint8) if labels is None else labels
    return SegmentedScan(labels, labels.astype(float), 1700.0, small_head.affine().numpy(), np.eye(4))


@pytest.mark.parametrize(
    ("contrast", "words"),
    [
        ("T1", []),
        ("T2", ["times as bright as white matter", "fluid seems to be brighter than tissue"]),
        ("FLAIR", ["times as bright as white matter"]),
        ("water", ["about the same brightness", "times as bright as white matter"]),
    ],
)
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (7.5, -1000.0)])
def test_another_contrast_is_doubted_and_a_t1_is_not(contrast, words, scale, offset):
    image = head(contrast)
    refuse_other_images(image)
    doubts = doubts_of_image(MetaTensor(scale * image.as_tensor() + offset), brain(), segmented())
    assert len(doubts) == len(words), doubts
    for doubt, word in zip(doubts, words, strict=True):
        assert word in doubt


def test_the_noise_of_an_uniform_image_is_doubted():
    image = head("T1")
    air = (small_head.tissues() == int(Tissue.AIR)).as_tensor()
    noisy = torch.where(air, 150 * torch.rand(air.shape, generator=torch.Generator().manual_seed(0)), image.as_tensor())
    (doubt,) = doubts_of_image(MetaTensor(noisy), brain(), segmented())
    assert "MP2RAGE" in doubt


def test_numbers_that_overflowed_are_doubted():
    image = head("T1", noise=9).as_tensor() * 290  # the brightest voxels are above 32767
    overflowed = torch.from_numpy(image.numpy().astype(np.uint16).view(np.int16).astype(np.float32))
    (doubt,) = doubts_of_image(MetaTensor(overflowed), brain(), segmented())
    assert doubt == f"{int((image >= 32768).sum())} voxels are far darker than air, as after an overflow of 16-bit numbers"


def test_without_registration_bright_fluid_is_doubted():
    doubts = {
        contrast: doubts_of_image(head(contrast), brain(), replace(segmented(), to_mni=None)) for contrast in ("T1", "T2")
    }
    assert doubts == {"T1": [], "T2": ["fluid seems to be brighter than tissue, as in T2"]}


@pytest.mark.parametrize(("share", "is_whole"), [(1.0, True), (0.5, True), (0.2, False)])
def test_a_part_of_a_brain_is_doubted(share, is_whole):
    part = brain()
    kept = np.argwhere(part)[:, 2] <= np.quantile(np.argwhere(part)[:, 2], share)
    part[tuple(np.argwhere(part)[~kept].T)] = False
    assert any("brain mask has" in doubt for doubt in doubts_of_image(head("T1"), part, segmented())) != is_whole


def test_a_large_infarct_is_no_doubt():
    image, labels = head("T1"), np.zeros(small_head.SHAPE, np.uint8)
    labels[small_head.ball((-35, -20, 20), (30, 50, 35)).numpy() & brain()] = 1
    image[0][torch.from_numpy(labels > 0)] = 25.0
    assert labels.sum() * 0.027 > 150
    assert doubts_of_image(image, brain(), segmented(labels)) == []


@pytest.mark.parametrize("offset", [0.0, 1024.0])
def test_a_ct_is_refused(offset):
    with pytest.raises(UserError, match="Hounsfield"):
        refuse_other_images(head("CT", noise=9.0, offset=offset))


def test_label_maps_are_refused_whatever_their_numbers():
    codes = small_head.tissues()
    many = codes.as_tensor().float() + 20 * (torch.arange(small_head.SHAPE[1]) // 3)[:, None]  # more labels than MOST_LABELS
    for labels in (codes.float(), (codes > 0).float(), MetaTensor(many)):
        with pytest.raises(UserError, match="label map"):
            refuse_other_images(labels)


@pytest.mark.parametrize(
    "known",
    [
        {},
        T1,
        {"SeriesDescription": "Sag T1 FLAIR", "EchoTime": 0.009, "RepetitionTime": 2.0, "InversionTime": 0.8},
        {"SeriesDescription": "T1_SE", "ScanningSequence": "SE", "EchoTime": 0.012, "RepetitionTime": 0.5},
        {"SeriesDescription": "Epilepsy 3D", "ScanningSequence": ["GR", "IR"], "SequenceName": "_tfl3d1_16ns", "EchoTime": 2.9},
        {"SeriesDescription": "FSPGR without contrast", "ProtocolName": "Brain T1 T2 FLAIR", "BodyPart": "BRAIN"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM", "MAGNITUDE"]},
    ],
)
def test_metadata_of_a_t1_are_no_matter(known):
    assert (objection_to_metadata(known), doubts_of_metadata(known)) == ("", [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"EchoTime": 0.03}, "echo time 30 ms"),
        ({"EchoTime": 95}, "echo time 95 ms"),
        ({"EchoTime": [0.08, 0.1]}, "echo time 80 ms"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "PHASE"]}, "not the magnitude"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "ADC"),
        ({"SeriesDescription": "AAHead_Scout"}, "a scout"),
        ({"SeriesDescription": "3-plane LOCALIZER"}, "a scout"),
        ({"SeriesDescription": "TOF_3D_multi-slab"}, "angiography"),
        ({"SeriesDescription": "gre_field_mapping"}, "a field map"),
        ({"SeriesDescription": "Ax T2 FSE"}, "T2"),
        ({"SeriesDescription": "AXT2"}, "T2"),
        ({"SeriesDescription": "T1_map"}, "a map"),
        ({"SeriesDescription": "rest", "SequenceName": "epfid2d1_64"}, "EPI"),
        ({"SeriesDescription": "rest", "ScanningSequence": "EP"}, "EPI"),
        ({"SeriesDescription": "", "ProtocolName": "dwi_b1000"}, "EPI"),
    ],
)
def test_metadata_of_other_images_are_an_objection(change, reason):
    assert reason in objection_to_metadata({**T1, **change})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ContrastBolusAgent": "Gadovist"}, "contrast agent"),
        ({"SeriesDescription": "t1_mprage_post_contrast"}, "contrast agent"),
        ({"SeriesDescription": "T1 +C"}, "contrast agent"),
        ({"InversionTime": 2.5}, "inversion time of 2500 ms"),
        ({"InversionTime": 0, "ScanningSequence": "SE", "RepetitionTime": 3.0}, "repetition time of 3000 ms"),
        ({"ScanningSequence": "GR", "EchoTime": 0.02}, "echo time of 20 ms"),
        ({"SeriesDescription": "mp2rage_INV2"}, "one inversion"),
        ({"SeriesDescription": "t1_swi"}, "susceptibility"),
        ({"BodyPart": "CSPINE"}, "body part"),
    ],
)
def test_metadata_that_are_unusual_are_a_doubt(change, word):
    assert objection_to_metadata({**T1, **change}) == ""
    (doubt,) = doubts_of_metadata({**T1, **change})
    assert word in doubt


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *[
            (name, "")
            for name in ("sub-01_T1w.nii.gz", "0_t1_mprage_3.nii", "T1_after_T2.nii", "head_7.nii", "x_ce-none_T1w.nii")
        ],
        *[("5_t2_tse.nii.gz", "T2"), ("7_flair.nii", "FLAIR"), ("2_ct_head.nii", "CT"), ("sub-1_ce-gad_T1w.nii", "agent")],
    ],
)
def test_names_of_files_are_a_doubt(name, word):
    assert [word in doubt for doubt in doubts_of_name(name)] == ([True] if word else [])


def write_scan(path, sidecar=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(head("T1").numpy()[0], small_head.affine().numpy()), path)
    if sidecar is not None:
        path.with_name(f"{path.name.split('.')[0]}.json").write_text(sidecar)


def test_a_bids_data_set_without_t1w_has_no_scan(tmp_path):
    others = [
        "FLAIR",
        "T2w",
        "inv-1_part-mag_MP2RAGE",
        "T1map",
        "task-rest_bold",
        "dwi",
        "magnitude1",
        "PDw",
        "T2starw",
        "angio",
    ]
    for suffix in others:
        write_scan(tmp_path / f"sub-01/anat/sub-01_{suffix}.nii")
    for named in (tmp_path, tmp_path / "sub-01/anat/sub-01_T2w.nii", tmp_path / "sub-01/anat/*.nii"):
        with pytest.raises(UserError, match="not T1-weighted by its suffix"):
            find_scans(named)
    write_scan(tmp_path / "sub-01/anat/sub-01_UNIT1.nii")
    found = find_scans(tmp_path)
    assert ([item["image"].rpartition("_")[2] for item in found], len(found.left_out)) == (["UNIT1.nii"], len(others))


def test_a_sidecar_beside_a_scan_is_read(tmp_path):
    contents = {"a": T1, "b": {**T1, "EchoTime": 0.09}, "c": {**T1, "ContrastBolusIngredient": "GADOLINIUM"}, "d": [1]}
    for name, content in contents.items():
        write_scan(tmp_path / f"{name}.nii.gz", json.dumps(content))
    write_scan(tmp_path / "e.nii.gz", "{no json")
    found = find_scans(tmp_path)
    assert found.left_out == [(str(tmp_path / "b.nii.gz"), "echo time 90 ms, not T1-weighted")]
    assert [len(doubts_of_item(item)) for item in found] == [0, 1, 0, 0]


def test_a_sidecar_of_bids_counts_for_all_scans_below_it_and_the_nearest_one_wins(tmp_path):
    scans = [
        tmp_path / f"sub-{subject}/ses-1/anat/sub-{subject}_ses-1{entity}_T1w.nii.gz"
        for subject in "123"
        for entity in ("", "_acq-x")
    ]
    for scan in scans:
        write_scan(scan)
    sidecars = {
        "T1w.json": {**T1, "EchoTime": 0.09},
        "T2w.json": {"ImageType": ["PHASE"]},
        "sub-2/sub-2_T1w.json": {"EchoTime": 0.003},
        "sub-3/ses-1/sub-3_ses-1_acq-x_T1w.json": {"EchoTime": 0.004, "ContrastBolusIngredient": "GADOLINIUM"},
        "sub-3/ses-1/anat/sub-3_ses-1_acq-x_T1w.json": {"EchoTime": 0.005},
    }
    for name, content in sidecars.items():
        (tmp_path / name).write_text(json.dumps(content))
    found = find_scans(tmp_path)
    assert [item["image"] for item in found] == [
        str(scan) for scan in sorted(scans) if "sub-2" in scan.name or "sub-3_ses-1_acq-x" in scan.name
    ]
    assert {reason for _, reason in found.left_out} == {"echo time 90 ms, not T1-weighted"}
    assert [doubts_of_item(item) for item in found] == [[], [], ["a contrast agent was given"]]
    assert sidecar_of(scans[-1]) == {**T1, "EchoTime": 0.005, "ContrastBolusIngredient": "GADOLINIUM"}
    assert sidecar_of(tmp_path / "alone_T1w.nii.gz") == {}


def test_a_series_is_judged_by_its_tags(tmp_path):
    values = head("T1").numpy()[0].astype(np.uint16)
    write_series(tmp_path / "a", values, number=1, edit=lambda data: setattr(data, "ContrastBolusAgent", "Gadovist"))
    write_series(tmp_path / "b", values, number=2, description="TOF_3D")
    write_series(tmp_path / "c", values, number=3)
    found = find_scans(tmp_path)
    assert [doubts_of_item(item) for item in found] == [["a contrast agent was given"], []]
    assert [why for _, why in found.left_out] == ["angiography by its description 'TOF_3D', not T1-weighted"]


@pytest.mark.parametrize(
    ("contrast", "has_lesion", "total"),
    [("T1", False, "0.0"), ("T1", True, None), ("FLAIR", False, "n/a"), ("FLAIR", True, None)],
)
def test_no_lesion_in_a_doubtful_scan_is_not_assessed(tmp_path, contrast, has_lesion, total):
    path = tmp_path / "in/head.nii"
    write_scan(path)
    affine, labels = small_head.affine(), torch.from_numpy(brain())[None]
    lesion = small_head.lesion()["mask"].as_tensor() * has_lesion
    outcome = {
        "pred": MetaTensor(torch.cat([1 - lesion, lesion, 0 * lesion]), affine=affine),
        "scan": head(contrast),
        "scan_brain": MetaTensor(labels.float(), affine=affine),
    }
    results = Results(
        str(tmp_path / "out"), {}, DecideLesionsd("pred"), lambda *_: Registration(np.eye(4), 0.9), {"pages": True}
    )
    item = {"image": str(path)}
    (name,) = name_scans([item], tmp_path)
    results.write(name, item, outcome)
    results.gather([name], {})
    (row,) = pd.read_csv(tmp_path / "out/volumes.tsv", sep="\t", keep_default_na=False, dtype=str).to_dict("records")
    assert total in (row["total_ml"], None)
    assert row["lesions"] == {"0.0": "0", "n/a": "n/a", None: "1"}[total]
    assert ("gray matter" in row["warnings"]) == (contrast == "FLAIR")
    is_unsure = total == "n/a"
    assert row["warnings"].startswith("not assessed; ") == is_unsure
    assert (float(row["uncertainty"]) == 1) == is_unsure
    for page in (tmp_path / f"out/pages/{name}.html", tmp_path / "out/index.html"):
        assert ("not assessed" in page.read_text().replace('"not assessed"', "")) == is_unsure


def test_an_analyze_file_says_in_its_row_that_left_is_unknown(tmp_path):
    nib.save(nib.AnalyzeImage(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.hdr")
    write_scan(tmp_path / "b.nii")
    assert [notes_of_reading({"image": str(tmp_path / name)}) for name in ("a.hdr", "b.nii")] == [[f"the scan {ANALYZE}"], []]
