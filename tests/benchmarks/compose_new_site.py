"""Synthetic scans of a site whose scanner and lesions differ from those of training, to measure what adapting to it gives.

    python tests/benchmarks/compose_new_site.py HEADS MASKS FOLDER

writes three cohorts of held-out heads and masks in the layout of ATLAS R1.1:

    FOLDER/pool       25 scans of the new site, from which scans to adapt to are drawn
    FOLDER/test       15 scans of the new site, from other heads and masks than those of the pool
    FOLDER/general    15 scans as in training (scanner `mixed`), from the heads and masks of `test`

The scanner of the new site has a flat contrast (gamma .55), a bias field, a blur of 0.8 mm and noise, and its slices are 3 mm
thick; the files have that grid. Its lesions are mild: gliosis near the brightness of gray matter, with little cavity.
"""

import argparse
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from candidates.bundle import configured
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandAdjustContrastd, RandGaussianSmoothd

from strokelesion.pipeline.synthesis.cohort import Material, compose_records, write_cohort
from strokelesion.transforms.synthesis import (
    RandBiasd,
    RandHeadCoverd,
    RandNoised,
    RandPaintLesionsd,
    RandUnitsd,
    SeededRecipe,
)

SLICE_MM = 3
GAMMA, BIAS, BLUR_MM, NOISE = 0.55, 0.4, 0.8, 0.04
TONES, CAVITY = (0.55, 1.0), 0.25
SCANS = {"test": 15, "pool": 25, "general": 15}


class RandPaintMildLesionsd(RandPaintLesionsd):
    """Paint lesions that are mostly gliosis near the brightness of gray matter."""

    def mixture(self, volume_ml: float) -> tuple[float, float]:
        """Draw a small share of cavity and a tone near that of gray matter."""
        share, _ = super().mixture(volume_ml)
        return CAVITY * share, float(self.R.uniform(*TONES))


class ThickGridd(MapTransform):
    """Average image and masks over axial slices of `SLICE_MM`; masks keep the voxels that are at least half lesion."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample on the grid of the thick slices."""
        sample = dict(data)
        affine = sample["image"].affine.clone()
        affine[:3, 3] += affine[:3, 2] * (SLICE_MM - 1) / 2
        affine[:3, 2] *= SLICE_MM
        for key in self.key_iterator(sample):
            volume = torch.as_tensor(sample[key]).as_subclass(torch.Tensor)
            if key == "image":
                thick = average(volume.float()).round()
            else:
                thick = sum(value * (average((volume == value).float()) >= 0.5) for value in volume.unique() if value)
                thick = torch.as_tensor(thick) + torch.zeros_like(average(volume.float()))
            sample[key] = MetaTensor(thick, affine=affine)
        return sample


def average(volume: torch.Tensor) -> torch.Tensor:
    """Return the mean over each `SLICE_MM` slices of a volume `(1, X, Y, Z)` of 1 mm."""
    return F.avg_pool3d(volume, (1, 1, SLICE_MM))


def new_site(transforms: SeededRecipe) -> SeededRecipe:
    """Return the transforms of the synthesis with the lesions and the scanner of the new site."""
    painted = [
        RandPaintMildLesionsd() if isinstance(one, RandPaintLesionsd) else one for one in transforms.chain.transforms[:-1]
    ]
    sigma = (BLUR_MM, BLUR_MM)
    return SeededRecipe(
        [
            *painted,
            RandBiasd(strength=BIAS, fixed=True),
            RandGaussianSmoothd("image", sigma_x=sigma, sigma_y=sigma, sigma_z=sigma, prob=1),
            RandNoised(std=NOISE, sample_std=False),
            RandAdjustContrastd("image", prob=1, gamma=(GAMMA, GAMMA)),
            RandHeadCoverd(stripped=0, defaced=1),
            RandUnitsd(),
            ThickGridd(("image", "label", "brain")),
        ]
    )


def main() -> None:
    """Write the cohorts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads")
    parser.add_argument("masks")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, help="number of scans of each cohort, for a try")
    arguments = parser.parse_args()
    options = {"heads": arguments.heads, "masks": arguments.masks, "material_dir": str(arguments.folder / "material")}
    config = configured("synthesis", "synthesis", **options, output_dir=str(arguments.folder))
    everything, mixed = (config.get_parsed_content(name) for name in ("cohort::material", "compose"))
    for seed, (name, scans) in enumerate(SCANS.items()):
        half = int(name != "pool")
        material = Material(everything.heads[half::2], everything.lesions.iloc[half::2].reset_index(drop=True))
        records = compose_records(material, "held_out", arguments.scans or scans, seed, lesion_free=0)
        write_cohort(records, mixed if name == "general" else new_site(mixed), arguments.folder / name)


if __name__ == "__main__":
    main()
