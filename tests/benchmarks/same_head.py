"""One head in six orientations, as .mha, .nrrd and DICOM series: does `inference` find the same lesion, on each grid?

    python tests/benchmarks/same_head.py SCAN FOLDER

SCAN is a T1 with a lesion; FOLDER gets the copies and their results. Prints a row a copy: lesion volume against that of the
first, how far the centroid lies from there in the scan's millimeters, and whether the mask is on its input's grid.
"""

import argparse
import sys
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pandas as pd
from monai.bundle import run
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from strokelesion.pipeline.inference.provenance import read_sidecar
from strokelesion.pipeline.options.workflow import bundle_root

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from dicom_files import write_series

ORIENTATIONS = ("RAS", "LAS", "LPS", "PSR", "SAR", "ILP")
WHITEST = 1000  # whole numbers, as DICOM has them


def write_copies(scan: Path, folder: Path) -> dict[str, nib.Nifti1Image]:
    """Write all copies, and return what each holds, by the beginning of its subject's name."""
    image = nib.load(scan)
    values = np.asarray(image.dataobj, dtype=np.float32)
    head = nib.Nifti1Image(np.rint(values * (WHITEST / np.percentile(values, 99))).astype(np.int16), image.affine)
    copies = {}
    for axes in ORIENTATIONS:
        turn = ornt_transform(io_orientation(head.affine), axcodes2ornt(axes))
        copies[axes] = head.as_reoriented(turn)
        nib.save(copies[axes], folder / f"{axes}.nii.gz")
    read = itk.imread(str(folder / "LPS.nii.gz"))
    for suffix in ("mha", "nrrd"):
        itk.imwrite(read, str(folder / f"{suffix}.{suffix}"))
        copies[suffix] = copies["LPS"]
    direction = itk.array_from_matrix(read.GetDirection())
    spacing_mm, origin_mm = tuple(read.GetSpacing()), tuple(read.GetOrigin())
    write_series(folder / "series", itk.array_from_image(read).T, spacing_mm, origin_mm, direction)
    copies["P001"] = copies["LPS"]
    return copies


def main() -> None:
    """Write, segment, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    scans, results = arguments.folder / "scans", arguments.folder / "results"
    scans.mkdir(parents=True, exist_ok=True)
    copies = write_copies(arguments.scan, scans)
    for asked in (scans, scans / "series"):
        run(
            run_id="inference",
            config_file=f"{bundle_root()}/resunet.json",
            scans=str(asked),
            output_dir=str(results / asked.name),
            pages=False,
        )
    rows = []
    for name, copy in copies.items():
        (path,) = results.glob(f"*/sub-{name}*/**/*_mask.nii.gz")
        mask = nib.load(path)
        voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
        rows.append(
            {
                "copy": name,
                "volume_ml": len(voxels) * abs(np.linalg.det(mask.affine[:3, :3])) / 1000,
                "centroid": apply_affine(mask.affine, voxels).mean(axis=0),
                "same_grid": mask.shape == copy.shape and np.allclose(mask.affine, copy.affine, atol=1e-3),
                "lesions": read_sidecar(Path(str(path).replace(".nii.gz", ".json")))["Tables"]["volumes"][0]["lesions"],
            }
        )
    table = pd.DataFrame(rows)
    first = table.iloc[0]
    table["volume_percent"] = 100 * (table["volume_ml"] / first["volume_ml"] - 1)
    table["moved_mm"] = [float(np.linalg.norm(place - first["centroid"])) for place in table.pop("centroid")]
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
