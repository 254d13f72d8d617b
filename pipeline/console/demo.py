"""Show the program without any data: make one synthetic scan, segment it, and print its lesions."""

from pathlib import Path

import nibabel as nib
import pandas as pd

from strokelesion.pipeline.console.commands import run_command
from strokelesion.pipeline.options.command_names import INFERENCE
from strokelesion.pipeline.runtime.files import write_json, write_nifti
from strokelesion.pipeline.synthesis.infarct_plan import TERRITORIES, Infarct
from strokelesion.pipeline.synthesis.phantom import plan_scans, simulate_scan

VOXEL_MM = 1.0
# A large infarct of the middle cerebral artery, and a small one on the other side.
INFARCTS = (
    Infarct(TERRITORIES[0], center_mm=(44, -8, 18), volume_ml=40),
    Infarct(TERRITORIES[0], center_mm=(-30, 10, 12), volume_ml=3),
)
SHOWN = ("class", "volume_ml", "hemisphere", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "mean_probability")


def show(folder: str | Path, others: list[str]) -> None:
    """Make the scan and segment it, in a folder; print the table of its lesions and the path of its page.

    Args:
        folder: Folder for `raw`, a BIDS data set with one scan, and for `results`.
        others: Further options of the command `segment`.
    """
    raw, results = Path(folder) / "raw", Path(folder) / "results"
    print(f"Making a synthetic scan in {raw} ...", flush=True)
    write_scan(raw)
    run_command(INFERENCE, "resunet", {"scans": raw, "output_dir": results}, others)
    print(f"\nLesions ({results / 'lesions.tsv'}):\n")
    print(pd.read_csv(results / "lesions.tsv", sep="\t")[list(SHOWN)].to_string(index=False))
    print(f"\nOpen {(results / 'index.html').absolute()} in a browser.")


def write_scan(raw: Path) -> None:
    """Write a BIDS data set with the scan, unless it is there."""
    path = raw / "sub-demo" / "anat" / "sub-demo_T1w.nii.gz"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(raw / "dataset_description.json", {"Name": "Synthetic scan by strokelesion", "BIDSVersion": "1.10.0"})
    (plan,) = plan_scans(0, sites=1, seed=0, like_atlas=False)
    image = simulate_scan({**plan, "infarcts": INFARCTS}, VOXEL_MM, like_atlas=False)["image"]
    write_nifti(path, nib.Nifti1Image(image[0].numpy(), image.affine.numpy()), 4)
