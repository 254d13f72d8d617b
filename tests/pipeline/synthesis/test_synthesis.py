"""From material to a synthetic cohort: which head gets which lesions, and whether the readers of ATLAS take it for theirs."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import small_head as head
import torch
from configured import configured
from refusals import refusal

from strokelesion.networks import CommandLineError, UserError
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.synthesis.cohort import compose_records, write_cohort
from strokelesion.pipeline.training.slice_store import SliceDataset, store_path
from strokelesion.transforms import ExtractSlicesd, Recipe
from strokelesion.transforms.synthesis import SCANNERS, RandPaintTissuesd, simulated_scanner

SCANS = 3


@pytest.fixture
def material(tmp_path):
    """Two prepared heads of ellipsoids and three masks."""
    places = {"one": (-40.0, -10.0, 15.0), "two": (40.0, -30.0, 20.0), "three": (-30.0, -50.0, 25.0)}
    return head.material(tmp_path, ("anna", "bert"), **places)


def chain_of(**options):
    """Return the chain of bundles/synthesis.json at 4 mm."""
    return configured("synthesis", "synthesis", **{"spacing_mm": 4, "device": "cpu", **options}).get_parsed_content("compose")


@pytest.fixture(scope="module")
def compose():
    return chain_of()


def test_a_longer_list_begins_with_the_shorter_one_and_sides_share_no_scan(material):
    short, long = (compose_records(material, "training", count) for count in (3, 6))
    assert long[:3] == short
    others = compose_records(material, "held_out", 6)
    assert not {record["subject"] for record in long} & {record["subject"] for record in others}
    assert [record["seed"] for record in long] != [record["seed"] for record in others]


def test_the_share_without_lesion_is_as_asked(material):
    free = [not record["lesions"] for record in compose_records(material, "training", 400, lesion_free=0.25)]
    assert np.mean(free) == pytest.approx(0.25, abs=0.06)
    assert all(record["lesions"] for record in compose_records(material, "training", 50, lesion_free=0))


def test_a_synthetic_cohort_is_read_as_r1_1_and_made_once(material, compose, tmp_path, capsys):
    records = compose_records(material, "held_out", SCANS, lesion_free=0)
    release = write_cohort(records, compose, tmp_path / "synthetic")
    read = read_cohort(release)
    assert [record["subject"] for record in read] == sorted(record["subject"] for record in records)
    assert {record["release"] for record in read} == {"R1.1"}
    for t1 in release.rglob("*t1w_deface*"):
        names = (t1.name, *(t1.name.replace("t1w_deface", kind) for kind in ("LesionSmooth", "BrainMask")))
        image, lesion, brain = (nib.load(t1.with_name(name)) for name in names)
        assert image.shape == lesion.shape == brain.shape == (49, 58, 47)
        assert np.array_equal(image.affine, lesion.affine)
        inside = np.asarray(lesion.dataobj) > 0
        assert inside.any()
        assert (np.asarray(brain.dataobj)[inside] > 0).all()
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*.nii.gz")}
    write_cohort(records, compose, tmp_path / "synthetic")
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*.nii.gz")} == before
    assert f"{SCANS} were there" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "synthetic" / "synthetic_scans.csv")
    assert set(table["head"]) <= {"anna", "bert"}


def test_a_folder_of_scans_made_of_something_else_is_refused(material, compose, tmp_path):
    write_cohort(compose_records(material, "held_out", 1), compose, tmp_path)
    with pytest.raises(UserError, match="made otherwise, 400000 for one"):
        write_cohort(compose_records(material, "held_out", 2, seed=1), compose, tmp_path)
    write_cohort(compose_records(material, "held_out", 2), compose, tmp_path)
    assert len(pd.read_csv(tmp_path / "synthetic_scans.csv")) == 2


@pytest.mark.parametrize(
    ("command", "bundle", "out"), [("synthesis", "synthesis", "output_dir"), ("training", "resunet_synthetic", "run_dir")]
)
def test_heads_must_be_named(command, bundle, out, run_command, tmp_path):
    where = {"material_dir": str(tmp_path / "material"), out: str(tmp_path / "out")}
    said = refusal(run_command, command, bundle, **where)
    assert "--heads is missing; expected a folder of label maps or T1 scans" in said
    assert not (tmp_path / "material").exists()


def test_training_takes_records_without_any_scan_on_disk(material, compose, tmp_path):
    records = compose_records(material, "training", 3, lesion_free=0)
    chain = Recipe([compose, ExtractSlicesd(["image", "label"], [52, 64], "all")])
    slices = SliceDataset(records, chain, str(tmp_path / "slices"))
    assert slices.has_lesion.any()
    assert slices[0]["image"].shape == (1, 52, 64)
    assert not list(tmp_path.rglob("*.nii.gz"))
    changed = {**records[0], "seed": 1}
    assert store_path(changed, chain, tmp_path) != store_path(records[0], chain, tmp_path)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_every_scanner_shows_the_same_anatomy(material, scanner):
    record = compose_records(material, "training", 1, lesion_free=0)[0]
    one, reference = (chain_of(scanner=name)(dict(record)) for name in (scanner, "plain"))
    assert torch.equal(one["label"].as_tensor(), reference["label"].as_tensor())
    assert torch.equal(one["brain"].as_tensor(), reference["brain"].as_tensor())
    assert one["image"].isfinite().all()


def test_an_unknown_scanner_is_refused_with_the_choices():
    with pytest.raises(CommandLineError, match=r"--scanner got '7T'; allowed are mixed, whole_head, plain"):
        simulated_scanner("7T", 1.0)


@pytest.mark.parametrize("any_contrast", [0.0, 1.0])
def test_another_contrast_than_t1_is_shown_as_often_as_asked(material, any_contrast):
    """Training bundles share the chain, and add an option to it."""
    chain = configured("resunet_synthetic", spacing_mm=4, device="cpu", any_contrast=any_contrast).get_parsed_content("compose")
    (paint,) = (step for step in chain.chain.flatten().transforms if isinstance(step, RandPaintTissuesd))
    assert paint.any_contrast_prob == any_contrast


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
@pytest.mark.parametrize("scanner", ["mixed", "whole_head", "plain", "stripped", "thick"])
def test_a_gpu_makes_the_same_anatomy_and_lesions(material, scanner):
    """Grain and noise are drawn there and are others; where edges are blurred, a voxel may fall on the other side."""
    record = compose_records(material, "training", 1, lesion_free=0)[0]
    there, here = (chain_of(scanner=scanner, device=device)(dict(record)) for device in ("cuda", "cpu"))
    for name in ("label", "brain"):
        assert there[name].device.type == "cuda"
        assert (there[name].cpu() != here[name]).float().mean() < 1e-3
    assert here["label"].any()
    inside = here["brain"].as_tensor() > 0
    assert float(there["image"].cpu()[inside].mean()) == pytest.approx(float(here["image"][inside].mean()), rel=0.02)
    assert np.corrcoef(there["image"].cpu().as_tensor()[inside], here["image"].as_tensor()[inside])[0, 1] > 0.85
