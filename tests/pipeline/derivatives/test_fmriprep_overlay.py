"""Masks for fMRIPrep: exact names, the bytes of the mask, and never in the data set of the scans or among the results."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_result import AFFINE

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import MASK, name_scans

pytestmark = pytest.mark.usefixtures("no_doubts")


def test_a_scan_with_a_bids_name_leaves_its_mask_and_another_one_is_named(results, item, name, outcome, tmp_path, caplog):
    other = {"image": str(tmp_path / "in/head.nii")}
    Path(other["image"]).write_bytes(Path(item["image"]).read_bytes())
    done = results(fmriprep=str(tmp_path / "overlay"))
    names = [name, *name_scans([other], tmp_path)]
    done.require_possible([item, other])
    for scan_name, scan in zip(names, (item, other), strict=True):
        done.write(scan_name, scan, outcome)
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/.bidsignore").write_text("extra/\n")
    for _ in range(2):
        done.gather(names, {})
    found = {str(path.relative_to(tmp_path / "overlay")) for path in (tmp_path / "overlay").rglob("*") if path.is_file()}
    roi = "sub-01/ses-b/anat/sub-01_ses-b_label-lesion_roi.nii.gz"
    assert found == {roi, ".bidsignore"}
    assert (tmp_path / "overlay" / roi).read_bytes() == done.path(name, MASK).read_bytes()
    image = nib.load(tmp_path / "overlay" / roi)
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert np.unique(np.asarray(image.dataobj)).tolist() == [0, 1]
    assert (tmp_path / "overlay/.bidsignore").read_text() == "extra/\n*lesion_roi.nii.gz\n"
    assert f"1 scans have no BIDS name and are not in {tmp_path / 'overlay'}" in caplog.text.replace("\n", " ")
    assert str(names[1]) in caplog.text


@pytest.mark.parametrize("describes_itself", [True, False])
@pytest.mark.parametrize(
    ("folder", "taken"),
    [("in", "a data set"), ("in/derivatives/x", "a data set"), ("out", "the results"), ("link", "a data set")],
)
def test_the_data_set_of_the_scans_and_the_results_are_refused(results, item, tmp_path, folder, taken, describes_itself):
    (tmp_path / "link").symlink_to(tmp_path / "in")
    if describes_itself:
        (tmp_path / "in/dataset_description.json").write_text("{}")
    with pytest.raises(UserError, match=f"which lies in .* the folder of {taken}.*; expected a folder elsewhere"):
        results(fmriprep=str(tmp_path / folder)).require_possible([item])
