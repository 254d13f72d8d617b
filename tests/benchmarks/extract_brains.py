"""How well and how fast the pretrained models find brains: Dice, what is too much and too little, seconds; and a summary.

`neck_ml` is what is found below the lowest voxel of the true brain, at the foramen magnum; `pieces` counts components.

    python tests/benchmarks/extract_brains.py FOLDER [FOLDER ...] [--csv brains.csv]

A folder holds synthetic scans with their `BrainMask` (see docs/synthesis.md), or T1s with FreeSurfer's labels, `X_T1w.nii.gz`
and `X_labels.nii.gz`.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from candidates.bundle import configured
from monai.transforms import LoadImage

from strokelesion.transforms.components import components
from strokelesion.transforms.synthesis import LabelTissuesd, is_brain

LOAD = LoadImage(reader="NibabelReader", image_only=True, ensure_channel_first=True)


def pairs(folder: Path) -> Iterator[tuple[Path, torch.Tensor]]:
    """Yield T1 and true brain of each scan below a folder."""
    for t1 in sorted(folder.rglob("*_t1w_deface_stx.nii.gz")):
        yield t1, LOAD(t1.with_name(t1.name.replace("t1w_deface", "BrainMask")))
    for t1 in sorted(folder.rglob("*_T1w.nii.gz")):
        labels = t1.with_name(t1.name.replace("_T1w", "_labels"))
        if labels.exists():
            yield t1, is_brain(LabelTissuesd("tissues")({"tissues": LOAD(labels)})["tissues"].as_tensor())


def heights_mm(mask: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Return the world z of each voxel of a mask `(1, X, Y, Z)`."""
    return mask[0].nonzero().double() @ affine[2, :3].double() + affine[2, 3]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--surface_weights", default="pretrained", help="'' for no second model")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    models = {"brain_weights": arguments.weights, "surface_weights": arguments.surface_weights or None}
    extract = configured("synthesis", "synthesis", **models).get_parsed_content("brain_extractor")
    rows = []
    for folder in arguments.folders:
        for t1, truth in pairs(folder):
            image, started_s = LOAD(t1), time.perf_counter()
            brain = extract(image)
            seconds = time.perf_counter() - started_s
            found, true = (torch.as_tensor(mask).as_subclass(torch.Tensor) > 0 for mask in (brain, truth))
            voxel_ml = float(image.pixdim.prod()) / 1000
            row = {"scan": t1.name, "dice": float(2 * (found & true).sum() / (found.sum() + true.sum())), "seconds": seconds}
            below = heights_mm(found, image.affine) < heights_mm(true, image.affine).min()
            row |= {"neck_ml": float(below.sum()) * voxel_ml, "pieces": len(components(found[0].numpy())[1]) - 1}
            row |= {
                "too_much_ml": float((found & ~true).sum()) * voxel_ml,
                "missing_ml": float((true & ~found).sum()) * voxel_ml,
            }
            rows.append(row)
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(table.drop(columns="scan").describe().loc[["mean", "50%", "min", "max"]].round(3).to_string())
    if arguments.csv:
        table.round(4).to_csv(arguments.csv, index=False)


if __name__ == "__main__":
    main()
