"""Heads: found in folders, prepared once, each voxel where it was; whatever cannot be prepared is named."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import small_head as head
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, ornt_transform

from strokelesion.networks import UserError
from strokelesion.pipeline.synthesis import heads as heads_module
from strokelesion.pipeline.synthesis.heads import find_heads, prepare_heads
from strokelesion.transforms.synthesis.tissues import FREESURFER, Tissue, is_brain, is_inside_skull

MARGIN_VOXELS = 2  # 5 mm at 3 mm
TO_MNI = np.array([[1.1, 0.1, 0, 5], [0, 1.2, 0, -3], [0, 0.1, 0.9, 7], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def registrations(monkeypatch):
    """A known affine in place of the registration, which has tests of its own; returns the list of its calls."""
    calls = []
    monkeypatch.setattr(heads_module, "register_to_mni", lambda tissues: calls.append(tissues) or TO_MNI)
    return calls


def write(path, volume, axcodes="RAS"):
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    nib.save(nib.Nifti1Image(volume.as_tensor()[0].numpy(), volume.affine.numpy()).as_reoriented(turn), path)
    return str(path)


def label_map():
    """The small head in FreeSurfer's numbers."""
    table = torch.zeros(len(Tissue), dtype=torch.int32)
    for tissue, numbers in FREESURFER.items():
        table[int(tissue)] = numbers[-1]
    return MetaTensor(table[head.tissues().as_tensor().long()], affine=head.affine())


@pytest.fixture
def prepare(tmp_path):
    """Prepare a head; returns where its files are."""
    return lambda item, **options: prepare_heads([item], tmp_path / "cache", spacing_mm=head.SPACING_MM, **options)[0]


def read(path):
    nifti = nib.load(path)
    return np.asanyarray(nifti.dataobj), nifti.affine


@pytest.fixture
def labeled(tmp_path):
    labels = write(tmp_path / "a_labels.nii.gz", label_map())
    return {"person": "a", "labels": labels, "image": write(tmp_path / "a_T1w.nii.gz", head.t1())}


@pytest.fixture
def bare(tmp_path):
    return {"person": "b", "image": write(tmp_path / "b_T1w.nii", head.t1())}


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_label_maps_and_t1s_are_paired_across_folders(tmp_path):
    names = ["one/b_labels.nii.gz", "one/sub-1_dseg.nii", "two/sub/sub-1_T1w.nii.gz", "two/a_T1w.mgz", "two/c_aseg.mgz"]
    touch(tmp_path, *names, "one/.d_labels.nii", "two/e_lesion.nii.gz", "two/f_T1w.txt")
    assert find_heads(f"{tmp_path / 'one'}, {tmp_path / 'two'}") == [
        {"person": "a", "image": str(tmp_path / names[3])},
        {"person": "b", "labels": str(tmp_path / names[0])},
        {"person": "c", "labels": str(tmp_path / names[4])},
        {"person": "sub-1", "labels": str(tmp_path / names[1]), "image": str(tmp_path / names[2])},
    ]


def test_a_folder_without_heads_and_two_label_maps_of_a_person_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"found no head in .*X_T1w\.nii\.gz"):
        find_heads(tmp_path)
    touch(tmp_path, "a_labels.nii", "a_aseg.mgz")
    with pytest.raises(UserError, match=r"a_aseg\.mgz and .*a_labels\.nii are both labels of a"):
        find_heads(tmp_path)


@pytest.mark.parametrize("axcodes", ["RAS", "LIA", "PSR"])
def test_each_tissue_stays_where_it_was_seen_through_the_registration(tmp_path, prepare, axcodes):
    labels = write(tmp_path / "a_labels.nii.gz", label_map(), axcodes)
    tissues, affine = read(prepare({"person": "a", "labels": labels})["tissues"])
    truth = head.tissues()
    for tissue in (Tissue.HIPPOCAMPUS, Tissue.VENTRICLE, Tissue.SKIN):
        place = apply_affine(truth.affine.numpy(), np.argwhere(truth[0].numpy() == tissue)).mean(0)
        found = apply_affine(affine, np.argwhere(tissues == tissue)).mean(0)
        assert np.allclose(found, apply_affine(TO_MNI, place), atol=1e-3)
        assert (tissues == tissue).sum() == (truth == tissue).sum()


def test_prepared_heads_are_cropped_on_one_grid_and_kept_until_a_file_changes(prepare, labeled, registrations):
    prepared = prepare(labeled)
    (tissues, affine), (image, same) = read(prepared["tissues"]), read(prepared["image"])
    assert (tissues.dtype, image.dtype) == (np.uint8, np.float32)
    assert tissues.shape == image.shape
    assert np.array_equal(affine, same)
    found = np.argwhere(tissues)
    assert (found.min(0) <= MARGIN_VOXELS).all()
    assert (np.array(tissues.shape) - 1 - found.max(0) <= MARGIN_VOXELS).all()
    assert np.median(image[tissues == Tissue.WHITE]) > np.median(image[tissues == Tissue.CORTEX]) > 70
    assert prepare(labeled) == prepared
    assert len(registrations) == 1
    write(Path(labeled["image"]), head.t1(bright_share=0.01))
    assert prepare(labeled) != prepared
    assert len(registrations) == 2


def inside_skull(image):
    assert image.shape[0] == 1
    return is_inside_skull(head.tissues().as_tensor())


def test_a_t1_without_labels_needs_its_brain_extracted_and_then_has_all_kinds_of_tissue(prepare, bare, labeled, registrations):
    with pytest.raises(UserError, match=r"1 heads are T1s without labels:\n.*b_T1w\.nii\nExpected.*extract_brain"):
        prepare(bare)
    assert not registrations
    prepared = prepare(bare, extract_brain=inside_skull)
    tissues, _ = read(prepared["tissues"])
    kinds = {Tissue.AIR, Tissue.WHITE, Tissue.CORTEX, Tissue.VENTRICLE, Tissue.CSF, Tissue.UNKNOWN}
    assert set(np.unique(tissues)) == kinds
    assert is_brain(torch.from_numpy(tissues)).sum() == pytest.approx(int(is_brain(head.tissues()).sum()), rel=0.05)
    assert prepare(bare, extract_brain=lambda image: image > 10) != prepared
    assert prepare(labeled, extract_brain=inside_skull) == prepare(labeled)


def test_the_file_of_a_head_that_cannot_be_prepared_is_named(tmp_path, prepare, labeled):
    write(Path(labeled["labels"]), label_map() * 0 + 7.5)
    with pytest.raises(UserError, match=r"cannot prepare .*a_labels\.nii\.gz and .*a_T1w\.nii\.gz: .*whole numbers"):
        prepare(labeled)
    assert not list(tmp_path.glob("cache/*"))


def test_labels_alone_on_a_coarser_grid_than_the_t1_decide_the_grid(prepare, labeled):
    fine = head.t1().as_tensor().repeat_interleave(2, 1)
    affine = head.affine() @ torch.diag(torch.tensor([0.5, 1, 1, 1], dtype=torch.float64))
    affine[0, 3] -= head.SPACING_MM / 4
    write(Path(labeled["image"]), MetaTensor(fine, affine=affine))
    prepared = prepare(labeled)
    (tissues, _), (image, _) = read(prepared["tissues"]), read(prepared["image"])
    assert tissues.shape == image.shape
    assert np.median(image[tissues == Tissue.WHITE]) == pytest.approx(111.5, abs=2)
