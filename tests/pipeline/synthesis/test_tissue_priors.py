"""Priors of tissue intensities: measured where labels are, complete in the installed table."""

from importlib.resources import files

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.synthesis.tissue_priors import CHOSEN, SAME_AS, measure_priors, pool_priors, write_priors
from strokelesion.transforms.synthesis.tissues import Tissue

COLUMNS = ["tissue", "mean", "sd_within", "sd_between", "source"]
MEASURED = [tissue for tissue in Tissue if tissue not in {Tissue.AIR, *CHOSEN, *SAME_AS}]
# Any monotone scale will do: these are the truths that are to be found again.
TRUTH = {tissue: 1.0 if tissue == Tissue.WHITE else 0.2 + 0.05 * tissue for tissue in MEASURED}
SD = 0.04


def write_head(folder, person, gain, shift=0.0, tissues=MEASURED):
    """A head of slabs, each of one tissue with noise; the plane where two slabs meet is a mixture."""
    codes = np.repeat([int(tissue) for tissue in tissues], 6)[None, None] * np.ones((13, 11, 1), dtype=np.uint8)
    levels = np.zeros(len(Tissue))
    levels[[int(tissue) for tissue in TRUTH]] = [TRUTH[tissue] + shift * (tissue != Tissue.WHITE) for tissue in TRUTH]
    image = levels[codes] + SD * np.random.default_rng(0).standard_normal(codes.shape)
    image[..., 5::6] = image[..., 6::6] = 9.0
    paths = {name: str(folder / f"{person}_{name}.nii") for name in ("tissues", "image")}
    for path, volume in zip(paths.values(), (codes.astype(np.uint8), (gain * image).astype(np.float32)), strict=True):
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    return {"person": person, **paths}


@pytest.fixture
def heads(tmp_path):
    return [write_head(tmp_path, "a", 100.0), write_head(tmp_path, "b", 0.3, shift=0.1)]


def test_priors_are_found_again_whatever_the_scale_and_without_border_voxels(heads):
    measured = measure_priors(heads[:1])
    assert list(measured["tissue"]) == [tissue.name for tissue in MEASURED]
    assert np.allclose(measured["mean"], list(TRUTH.values()), atol=0.01)
    assert np.allclose(measured["sd"], SD, atol=0.01)


def test_spread_within_heads_and_between_heads_are_told_apart(heads):
    pooled = pool_priors(measure_priors(heads)).set_index("tissue")
    assert pooled.loc["CORTEX", "mean"] == pytest.approx(TRUTH[Tissue.CORTEX] + 0.05, abs=0.01)
    assert pooled.loc["CORTEX", "sd_within"] == pytest.approx(SD, abs=0.01)
    assert pooled.loc["CORTEX", "sd_between"] == pytest.approx(0.1 / np.sqrt(2), abs=0.01)
    assert pooled.loc["CSF", "mean"] == pooled.loc["VENTRICLE", "mean"]


def test_heads_without_t1_are_passed_over_and_none_with_t1_or_a_missing_tissue_is_refused(heads, tmp_path):
    bare = {"person": "c", "tissues": heads[0]["tissues"]}
    assert set(measure_priors([bare, heads[1]])["person"]) == {"b"}
    with pytest.raises(UserError, match="no head has a T1"):
        measure_priors([bare])
    without = [tissue for tissue in MEASURED if tissue != Tissue.PUTAMEN]
    with pytest.raises(UserError, match="PUTAMEN"):
        pool_priors(measure_priors([write_head(tmp_path, "a", 1.0, tissues=without)]))


def test_written_priors_have_the_form_of_the_installed_ones(tmp_path, heads):
    for table in (pd.read_csv(write_priors(heads, tmp_path / "priors.csv")), installed()):
        assert list(table.columns) == COLUMNS
        assert list(table["tissue"]) == [tissue.name for tissue in Tissue if tissue != Tissue.AIR]


def test_installed_priors_have_the_contrast_of_a_t1_and_say_what_was_chosen_by_hand():
    table = installed().set_index("tissue")
    mean = table["mean"]
    assert mean["WHITE"] == pytest.approx(1, abs=0.03)
    assert mean["CSF"] < mean["CHOROID"] < mean["CORTEX"] < mean["THALAMUS"] < mean["WHITE"]
    assert mean["BONE"] < mean["CORTEX"] < mean["MARROW"]
    by_hand = table["source"].str.startswith("chosen by hand")
    assert set(table.index[by_hand]) == {tissue.name for tissue in CHOSEN}
    assert table.loc[[tissue.name for tissue in MEASURED], "source"].str.startswith("measured on").all()
    assert (table["sd_within"] > 0).all()


def installed():
    return pd.read_csv(str(files("strokelesion.transforms.synthesis") / "t1_priors.csv"))
