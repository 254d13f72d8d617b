"""A cohort of the second generator: the layout of the first one, and a table of what was drawn."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import small_head as head
from configured import configured

from strokelesion.networks import CommandLineError, UserError
from strokelesion.pipeline.cohorts.survey import read_cohort
from strokelesion.pipeline.options.option_checks import check, require_consistent
from strokelesion.pipeline.options.settings import options_of
from strokelesion.pipeline.synthesis.cohort import compose_records, write_cohort
from strokelesion.pipeline.synthesis.scans_table import write_scans_table
from strokelesion.transforms.shifted import draw_scan_options


def test_a_shifted_cohort_has_the_layout_of_r1_1_and_a_table_of_what_was_drawn(tmp_path):
    records = compose_records(head.material(tmp_path), "held_out", 2, lesion_free=0)
    parser = configured("synthesis", "synthesis", spacing_mm=6, device="cpu", generator="shifted")
    release = write_cohort(records, parser.get_parsed_content("generators::shifted"), tmp_path / "made", generator="shifted")
    read = read_cohort(release)
    assert [record["subject"] for record in read] == ["400000", "400001"]
    table = pd.read_csv(tmp_path / "made" / "synthetic_scans.csv", dtype={"subject": str})
    assert set(table["generator"]) == {"shifted"}
    for record, row in zip(records, table.to_dict("records"), strict=True):
        drawn = draw_scan_options(record["seed"])
        for name in ("view", "sequence", "atrophy", "bright_muscle", "lesion_kind", "noise"):
            assert row[name] == getattr(drawn, name)
        (path,) = release.rglob(f"{row['subject']}_BrainMask_stx.nii.gz")
        brain = nib.load(path)
        world = brain.affine @ [*np.argwhere(np.asarray(brain.dataobj))[:, :3].min(0), 1]
        assert row["lowest_brain_mm"] == pytest.approx(world[2])
    before = (tmp_path / "made" / "synthetic_scans.csv").read_text()
    write_cohort(records, None, tmp_path / "made", generator="shifted")
    assert (tmp_path / "made" / "synthetic_scans.csv").read_text() == before


def test_a_folder_of_the_other_generator_is_refused(tmp_path):
    records = compose_records(head.material(tmp_path), "held_out", 1)
    write_scans_table(tmp_path, records, "shifted")
    with pytest.raises(UserError, match="made otherwise, 400000 for one"):
        write_scans_table(tmp_path, records)


def test_a_table_of_an_earlier_version_is_of_the_standard_generator(tmp_path):
    records = compose_records(head.material(tmp_path), "held_out", 2)
    write_scans_table(tmp_path, records[:1])
    path = tmp_path / "synthetic_scans.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns="generator").to_csv(path, index=False)
    write_scans_table(tmp_path, records)
    assert pd.read_csv(path)["generator"].tolist() == ["standard"] * 2


@pytest.mark.parametrize("command", ["training", "release", "experiments", "doctor"])
def test_commands_that_learn_take_no_generator(command):
    assert "generator" not in options_of(command)


def test_the_second_generator_has_a_scanner_of_its_own():
    with pytest.raises(CommandLineError, match="--generator shifted and --scanner thick; expected --scanner mixed"):
        require_consistent(check({"generator": "shifted", "scanner": "thick"}))
