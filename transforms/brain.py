"""Brain extraction by trained networks, once per scan; the mask is used for intensities, crops and predictions.

The networks are passed in. This module resamples a scan for them and resamples their output to the scan's grid.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, MapTransform, Orientationd, Spacingd
from scipy import ndimage

from strokelesion.networks import UserError
from strokelesion.networks.planes import PLANES, mean_over_planes
from strokelesion.transforms.components import largest_component, least_voxels, without_small
from strokelesion.transforms.geometry import is_outside, resampled, voxel_ml
from strokelesion.transforms.intensity import ScaleTissued, is_tissue
from strokelesion.transforms.recipe import Recipe, fingerprint

Infer = Callable[[torch.Tensor, torch.nn.Module], torch.Tensor]
# A smaller volume is not a brain, even if it is cropped; a newborn's brain has 300 ml.
LEAST_BRAIN_ML = 100.0
# Half the width of a large cortical infarct that reaches the surface and may be mistaken for fluid; narrower cavities in the
# mask are closed.
CLOSED_CAVITY_MM = 12.0
# Smaller holes in a fine brain mask are fluid deep in a sulcus, not infarcts that were mistaken for fluid.
LEAST_HOLE_ML = 0.1


class BrainNetwork:
    """Trained slice network that predicts the probability of brain in whole scans.

    As in training, the scan is turned to RAS, resampled to the network's voxel size and scaled by its tissue (`ScaleTissued`).
    Predictions are averaged if there are several planes: neck muscles that resemble the cerebellum in axial slices do not
    in sagittal ones.

    Args:
        network: Trained network, on the CPU, from slices `(B, 1, H, W)` to logits `(B, 2, H, W)` of background and brain.
        infer: Function from a volume `(1, 1, H, W, D)` and the network to the logits `(1, 2, H, W, D)` of its slices along D,
            such as MONAI's inferers. Threads share it, so it must not change with use.
        spacing_mm: Voxel size of the training data, the same along all axes.
        planes: Planes of the slices, a subset of `PLANES`.
        device: Device that computes the network; the network is moved there at its first use.

    Attributes:
        fingerprint: SHA-256 of the network's weights and of all settings that affect the output.
    """

    version = 1

    def __init__(
        self,
        network: torch.nn.Module,
        infer: Infer,
        spacing_mm: float = 2.0,
        planes: Sequence[str] = ("axial",),
        device: str | torch.device = "cpu",
    ) -> None:
        if not planes or not set(planes) <= set(PLANES):
            raise UserError(f"got planes {list(planes)}; expected some of {', '.join(PLANES)}.")
        # This memory format reduces the time on processors to about two thirds.
        self.network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.infer = infer
        self.place = Recipe(
            [
                Orientationd("image", axcodes="RAS", labels=None),
                Spacingd("image", pixdim=spacing_mm, mode="bilinear", dtype=np.float32),
                ScaleTissued("image"),
            ]
        )
        self.crop = CropForegroundd(("image", "near"), source_key="near", allow_smaller=True)
        self.planes = tuple(planes)
        self.device = torch.device(device)
        made_from = [self.version, type(network), network.state_dict(), infer, self.place, self.planes]
        self.fingerprint = fingerprint(made_from)

    def __call__(self, image: MetaTensor, near: MetaTensor | None = None) -> MetaTensor:
        """Return the probability of brain `(1, x, y, z)` on a grid of the network's voxel size, with its affine.

        Args:
            image: T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity.
            near: Search region, 0/1 `(1, x, y, z)` on any grid with its affine; the probability is 0 elsewhere. By default,
                everything but air is searched.

        Raises:
            UserError: If `tissue_scale` refuses the image.
        """
        # A new tensor, so that inverting the scan's transforms on predictions does not also invert these.
        sample: dict[Hashable, Any] = self.place({"image": MetaTensor(image.as_tensor(), affine=image.affine)})
        sample["near"] = is_tissue(sample["image"]) if near is None else resampled(near, sample["image"]) >= 0.5
        cropped: dict[Hashable, Any] = self.crop(sample)
        self.network.to(self.device)
        volume = cropped["image"].as_tensor()[None].to(self.device)
        probability = mean_over_planes(volume, self.by_slice, self.planes)[0].cpu()
        if near is not None:
            probability = probability * cropped["near"].as_tensor().cpu()
        return MetaTensor(probability, affine=cropped["image"].affine)

    def by_slice(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the probability of brain from slices along the last axis; input and output are `(1, 1, x, y, z)`."""
        with torch.no_grad():
            logits = torch.as_tensor(self.infer(volume, self.network))
        return logits.softmax(dim=1)[:, 1:]


class BrainExtractor:
    """Find the brain, including lesions and ventricles, in a T1 scan on any grid: whole head, skull-stripped or cropped.

    1. `find` predicts the brain in the whole scan.
    2. Its largest 26-connected component is kept, and the holes are filled.
    3. `refine`, if given, predicts again at a finer voxel size, up to `margin_mm` outside that component. Its result is
       cleaned in the same way, except that holes smaller than `LEAST_HOLE_ML` stay.
    4. The probabilities are resampled to the scan's grid, trilinearly, and thresholded.

    Args:
        find: Network with coarse voxels that locates the brain.
        refine: Network with fine voxels that refines the brain's surface.
        margin_mm: Largest expected error of `find`.
        threshold: Least probability of brain.

    Attributes:
        fingerprint: SHA-256 of everything that affects the mask.
    """

    version = 1

    def __init__(
        self, find: BrainNetwork, refine: BrainNetwork | None = None, margin_mm: float = 6.0, threshold: float = 0.5
    ) -> None:
        self.find, self.refine = find, refine
        self.margin_mm, self.threshold = margin_mm, threshold
        self.fingerprint = fingerprint([self.version, find, refine, margin_mm, CLOSED_CAVITY_MM, LEAST_HOLE_ML, threshold])

    def __call__(self, image: MetaTensor) -> torch.Tensor:
        """Return the brain mask of a T1 scan in any unit of intensity; both are `(1, X, Y, Z)`.

        Raises:
            UserError: If the brain is smaller than `LEAST_BRAIN_ML`, or if `tissue_scale` refuses the image.
        """
        found = in_one_piece(self.find(image), self.threshold)
        if self.refine is not None and (found >= self.threshold).any():
            near = ~is_outside(cast(MetaTensor, found >= self.threshold), self.margin_mm, CLOSED_CAVITY_MM)
            found = in_one_piece(self.refine(image, MetaTensor(near[None], affine=found.affine)), self.threshold, LEAST_HOLE_ML)
        brain = resampled(found, image).as_tensor() >= self.threshold
        if (volume_ml := float(brain.sum()) * voxel_ml(image.affine)) < LEAST_BRAIN_ML:
            raise UserError(
                f"found {volume_ml:.0f} ml of brain; expected at least {LEAST_BRAIN_ML:.0f} ml. Check that this is a T1 "
                "scan of a head and that its axes are labeled rightly; networks trained with --intensities tissue need no "
                "brain mask."
            )
        return brain

    def __deepcopy__(self, memo: dict[int, Any]) -> "BrainExtractor":
        """Return itself: it does not change with use, so the chains that are copied for each scan can share the networks."""
        return self


def in_one_piece(probability: MetaTensor, threshold: float, least_hole_ml: float = 0.0) -> MetaTensor:
    """Return probabilities `(1, X, Y, Z)` with 0 outside the largest component above a threshold and 1 in its larger holes."""
    values = probability.as_tensor()
    found = values >= threshold
    piece = largest_component(found[0])
    holes = ndimage.binary_fill_holes(piece) & ~piece
    if least_hole_ml > 0:
        holes = without_small(holes, least_voxels(least_hole_ml, voxel_ml(probability.affine)))
    brain = torch.as_tensor(piece | holes)
    return MetaTensor(torch.where(found == brain, values, brain.to(values.dtype)), affine=probability.affine)


class ExtractBraind(MapTransform):
    """Add a scan's brain mask `(1, X, Y, Z)`, 0/1 bytes on the scan's own grid.

    Args:
        keys: Scan `(1, X, Y, Z)`.
        extract: `BrainExtractor`, or a function with the same input and output.
    """

    version = 1

    def __init__(self, keys: KeysCollection, extract: Callable[[MetaTensor], torch.Tensor]) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise UserError(f"got keys {self.keys}; expected one: the scan's.")
        self.extract = extract

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its brain mask."""
        image = data[self.keys[0]]
        brain = MetaTensor(self.extract(image).to(image.device, torch.uint8), affine=image.affine)
        return {**data, "brain": brain}


class KeepOnePieced(MapTransform):
    """Keep the largest component of the brain in predictions and fill its holes, see `in_one_piece`.

    Args:
        keys: Probabilities of background and brain `(2, X, Y, Z)`.
        threshold: Least probability of brain.
    """

    def __init__(self, keys: KeysCollection, threshold: float = 0.5) -> None:
        super().__init__(keys)
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the probability of brain changed."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = sample[key].clone()
            sample[key][1:] = in_one_piece(sample[key][1:], self.threshold)
        return sample


class OutsideBraind(MapTransform):
    """Overwrite voxels further than a margin from the closed mask `brain`; the margin is needed because masks are inexact.

    The first channel becomes `FIRST_CHANNEL`, the others 0.

    Args:
        keys: Volumes `(C, X, Y, Z)`.
        margin_mm: Margin around the brain that is kept.
    """

    FIRST_CHANNEL = 0.0

    def __init__(self, keys: KeysCollection, margin_mm: float) -> None:
        super().__init__(keys)
        self.margin_mm = margin_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes overwritten."""
        sample = dict(data)
        outside = is_outside(sample["brain"], self.margin_mm, CLOSED_CAVITY_MM)
        for key in self.key_iterator(sample):
            sample[key] = sample[key].clone()
            sample[key][:, outside] = 0
            sample[key][0, outside] = self.FIRST_CHANNEL
        return sample


class StripHeadd(OutsideBraind):
    """Set a scaled scan to air outside the brain, so that the network need not learn to ignore scalp, eyes and neck.

    Use a margin that includes the CSF of the sulci, which brain masks exclude.
    """

    version = 1


class KeepInBraind(OutsideBraind):
    """Set predictions outside the brain to background: probability 1 for the first class and 0 for all others."""

    FIRST_CHANNEL = 1.0
