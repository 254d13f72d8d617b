"""One transform that makes a scan of the second generator, from a head and lesion masks to image, label and brain mask."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Randomizable, Transform

from strokelesion.transforms.shifted.atrophy import shrink_brain
from strokelesion.transforms.shifted.infarct_kinds import paint_infarcts
from strokelesion.transforms.shifted.neck import add_neck
from strokelesion.transforms.shifted.relaxation import draw_contrast
from strokelesion.transforms.shifted.scan_options import ScanOptions, draw_scan_options
from strokelesion.transforms.shifted.signal_acquisition import scan_signal
from strokelesion.transforms.shifted.substances import divide_soft_tissue, divide_unknown, mark_cord, mark_dura
from strokelesion.transforms.shifted.supersampling import supersample
from strokelesion.transforms.shifted.tissue_mixture import paint_mixture, paint_old_disease
from strokelesion.transforms.synthesis.anatomy import FitLesionsd
from strokelesion.transforms.synthesis.fields import plain
from strokelesion.transforms.synthesis.head_placement import RandPlaceHeadd
from strokelesion.transforms.synthesis.tissues import is_brain

# The neck ends this far below the field of view, so that rotated heads fill it. Half of the scans are flipped.
BELOW_MM, FLIPPED = 30.0, 0.5
# Classes whose shares are computed, from 1 on.
CLASSES = ("brain", "main lesion", "other lesion")


class RandShiftedScand(Randomizable, Transform):
    """Make a scan by another model of anatomy, appearance and scanner than that of the training scans.

    All anatomy is on the grid of the head; `supersample` then resamples its signal, its lesions and its brain in one step.

    Reads `seed`, `tissues` `(1, x, y, z)`, optionally `image` on the same grid, and `lesions` as loaded by `LoadLesionsd`.
    Writes `image`, `label` (1 main, 2 others) and `brain` `(1, X, Y, Z)`.

    Args:
        spacing_mm: Voxel size of the scan.
    """

    def __init__(self, spacing_mm: float = 1.0) -> None:
        self.spacing_mm = spacing_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with a scan."""
        options = draw_scan_options(int(data["seed"]))
        placing = RandPlaceHeadd(self.spacing_mm, options.extent_mm)
        placing.R = self.R
        affine = placing.affine.double()
        points_mm = placing.deformed_points()
        if self.R.uniform() < FLIPPED:
            points_mm[..., 0] *= -1
        head = self.draw_anatomy(data, options, float(affine[2, 3]))
        codes, label = head["tissues"][0], head["label"][0]
        signal = self.paint(codes, head["lesions"][0], options, float(head["affine"][0, 0]))
        classes = torch.where(label > 0, label + 1, is_brain(codes).to(torch.uint8))
        signal, shares = supersample(signal, classes, head["affine"], points_mm)
        shares = F.pad(shares, (0,) * 6 + (0, len(CLASSES) - len(shares)))
        main, sub = shares[1:]
        lesion = torch.where(main + sub >= 0.5, torch.where(main >= sub, 1, 2), 0).to(torch.uint8)
        inside = shares.sum(0) >= 0.5
        image = scan_signal(signal, inside, self.spacing_mm, options, self.R)
        made = {"image": image, "label": lesion, "brain": inside.to(torch.uint8)}
        return {**data, **{key: MetaTensor(volume[None], affine=affine) for key, volume in made.items()}}

    def draw_anatomy(self, data: Mapping[Hashable, Any], options: ScanOptions, bottom_mm: float) -> dict[str, torch.Tensor]:
        """Return codes, lesion numbers and label `(1, x, y, z)` of a head with neck and atrophy, and its affine."""
        codes, affine = plain(data["tissues"])[0], plain(data["tissues"].affine).double()
        if "image" in data:
            codes = divide_unknown(codes, plain(data["image"])[0])
        codes = mark_cord(codes)
        length = round((float(affine[2, 3]) - bottom_mm + BELOW_MM) / float(affine[2, 2]))
        codes, first = add_neck(codes, max(length, 0), self.R)
        affine = affine.clone()
        affine[:3, 3] += affine[:3, :3] @ first.double()
        spacing_mm = float(affine[0, 0])
        codes = shrink_brain(codes, options.atrophy, spacing_mm, self.R)
        codes = mark_dura(divide_soft_tissue(codes, spacing_mm, self.R))
        tissues = MetaTensor(codes[None], affine=affine)
        fitted = FitLesionsd()({"tissues": tissues, "lesions": MetaTensor(self.place_lesions(data, tissues), affine=affine)})
        return {"tissues": codes[None], "affine": affine, **{key: plain(fitted[key]) for key in ("lesions", "label")}}

    def place_lesions(self, data: Mapping[Hashable, Any], tissues: MetaTensor) -> torch.Tensor:
        """Return the map of lesion numbers `(1, x, y, z)` on the grid of the head."""
        placing = RandPlaceHeadd(1.0, tissues.shape[1:])
        placing.R = self.R
        matrix = plain(tissues.affine).float()
        axes = torch.meshgrid(*(torch.arange(size).float() for size in tissues.shape[1:]), indexing="ij")
        return placing.lesion_map(data["lesions"], torch.stack(axes, dim=-1) @ matrix[:3, :3].T + matrix[:3, 3])

    def paint(self, codes: torch.Tensor, lesions: torch.Tensor, options: ScanOptions, spacing_mm: float) -> torch.Tensor:
        """Return the signal `(x, y, z)` of tissues, old disease and infarcts."""
        contrast = draw_contrast(options, self.R)
        signal = paint_mixture(codes, contrast, spacing_mm, self.R)
        signal = paint_old_disease(signal, codes, contrast, options, spacing_mm, self.R)
        return paint_infarcts(signal, codes, lesions, contrast, options, spacing_mm, self.R)
