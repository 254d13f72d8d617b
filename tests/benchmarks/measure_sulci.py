"""How bright the fluid between the folds of a labeled T1 is, on the way from the ventricles (0) to the cortex (1).

    python tests/benchmarks/measure_sulci.py FOLDER

The folder holds T1s with FreeSurfer's labels, `X_T1w.nii.gz` and `X_labels.nii.gz`. Folds are what closing the labels by 3 mm
adds; but for the cortex, medians are taken a voxel from any border, so that nothing is mixed with tissue. What
`RandPaintTissuesd(sulcal_partial_volume)` rests on.
"""

import argparse
from pathlib import Path

import numpy as np
from monai.transforms import LoadImage
from scipy.ndimage import binary_erosion

from strokelesion.pipeline.synthesis.head_tissues import close, spacing_mm
from strokelesion.transforms.synthesis import LabelTissuesd, is_brain
from strokelesion.transforms.synthesis.tissues import Tissue

LOAD = LoadImage(reader="NibabelReader", image_only=True, ensure_channel_first=True)


def measure_partial_volume(t1: Path, labels: Path) -> dict[str, float]:
    """Return the median of ventricles, folds and cortex relative to white matter, and the share of the way."""
    tissues = LabelTissuesd("tissues")({"tissues": LOAD(labels)})["tissues"]
    image, codes, brain = LOAD(t1)[0].numpy(), tissues[0].numpy(), is_brain(tissues.as_tensor())[0].numpy()
    places = {
        "white": binary_erosion(codes == Tissue.WHITE),
        "ventricles": binary_erosion(codes == Tissue.VENTRICLE),
        "folds": binary_erosion(close(brain, spacing_mm(tissues)) & ~brain),
        "cortex": codes == Tissue.CORTEX,
    }
    white, *medians = (float(np.median(image[place])) for place in places.values())
    fluid, folds, cortex = (median / white for median in medians)
    return {"ventricles": fluid, "folds": folds, "cortex": cortex, "share": (folds - fluid) / (cortex - fluid)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for t1 in sorted(parser.parse_args().folder.rglob("*_T1w.nii.gz")):
        labels = t1.with_name(t1.name.replace("_T1w", "_labels"))
        if labels.exists():
            print(t1.name, {name: round(value, 2) for name, value in measure_partial_volume(t1, labels).items()})


if __name__ == "__main__":
    main()
