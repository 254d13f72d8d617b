"""Scans of the second generator are refused for training, wherever their folder is in the data set, and allowed for scoring."""

import pandas as pd
import pytest

from strokelesion.networks import UserError
from strokelesion.pipeline.cohorts.splits import scored_records, split_cohort, train_on_all
from strokelesion.pipeline.cohorts.validation_scans import SCANS_TABLE


def records(folder, count=6):
    """Return scans in the layout of R1.1."""
    names = [f"{400000 + number}" for number in range(count)]
    return [
        {"image": f"{folder}/ATLAS_R1.1/Site3/{name}/t01/{name}_t1w_deface_stx.nii.gz", "main_mask": "mask.nii"}
        | {"subject": name, "person": name, "session": "t01", "site": "Site3", "release": "R1.1"}
        for name in names
    ]


def write_scans(folder, generators):
    """Write the table of synthetic scans, without the column of generators if there are none."""
    rows = pd.DataFrame({"subject": [record["subject"] for record in records(folder)]})
    (rows.assign(generator=generators) if generators else rows).to_csv(folder / SCANS_TABLE, index=False)


@pytest.mark.parametrize("generators", [None, ["standard"] * 6])
def test_other_synthetic_scans_are_trained_on(tmp_path, generators):
    write_scans(tmp_path, generators)
    assert len(split_cohort(records(tmp_path), "3-fold").training) == 4


def test_shifted_scans_are_scored_but_not_trained_on(tmp_path):
    write_scans(tmp_path, ["shifted"] * 6)
    with pytest.raises(UserError, match="made by the generator 'shifted', and so were 4 training scans"):
        split_cohort(records(tmp_path), "3-fold", written=tmp_path / "split.csv")
    assert not (tmp_path / "split.csv").exists()
    with pytest.raises(UserError, match="and so were 6 training scans"):
        train_on_all(records(tmp_path))
    assert len(scored_records(records(tmp_path), "all", "3-fold", 0, 0, tmp_path / "split.csv")) == 6


def test_shifted_scans_that_are_held_out_validate_a_training_on_others(tmp_path):
    write_scans(tmp_path, ["standard"] * 4 + ["shifted"] * 2)
    pd.DataFrame({"subject": ["400004", "400005"]}).to_csv(tmp_path / "held_out.csv", index=False)
    sides = split_cohort(records(tmp_path), str(tmp_path / "held_out.csv"))
    assert {record["subject"] for record in sides.held_out} == {"400004", "400005"}
