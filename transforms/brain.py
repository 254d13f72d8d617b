"""Where the brain is: networks find it once for each scan; intensities, crops and predictions keep to it.

The networks come in from outside, trained; this module brings a scan to them and their answer back to the scan's grid.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, MapTransform, Orientationd, Spacingd
from numpy.typing import NDArray
from scipy import ndimage

from strokelesion.networks import UserError
from strokelesion.networks.planes import PLANES, mean_over_planes
from strokelesion.transforms.decision import components, least_voxels
from strokelesion.transforms.distances import distances_mm
from strokelesion.transforms.grids import resampled
from strokelesion.transforms.intensity import ScaleTissued, is_tissue
from strokelesion.transforms.recipe import Recipe, fingerprint

Infer = Callable[[torch.Tensor, torch.nn.Module], torch.Tensor]
# Less than this is no brain, however it was cropped: that of a newborn has 300 ml.
LEAST_BRAIN_ML = 100.0
# Half the width of a large cortical infarct that opens to the surface.
CLOSED_NOTCH_MM = 12.0
# A smaller hole of a finely drawn brain is fluid deep in a sulcus, no infarct that was taken for fluid.
LEAST_HOLE_ML = 0.1
# Where all edges of the voxels are shorter, distances to the brain are computed at every second one.
FINE_MM = 1.5


class BrainNetwork:
    """A trained network for slices, brought to whole scans: how likely each voxel is brain.

    The scan is brought to RAS and to the network's voxel size and scaled on tissue (`ScaleTissued`), as in training. The
    network sees its slices in one plane, or in several, and then its answers are averaged: muscles of the neck that look
    like cerebellum in axial slices do not in sagittal ones.

    Args:
        network: logits `(B, 2, H, W)` of background and brain from slices `(B, 1, H, W)`; trained, on the CPU.
        infer: takes a volume `(1, 1, H, W, D)` and the network, and returns the logits `(1, 2, H, W, D)` of its slices along D,
            as MONAI's inferers do. Threads share it: it must not change with use.
        spacing_mm: voxel size that the network was trained on, the same along all axes.
        planes: those of `PLANES` that it looks at.
        device: where the network computes; it goes there when it is first used.

    Attributes:
        fingerprint: SHA-256 of the network's weights and all settings that decide the answer.
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
        # In this order of memory, processors take about two thirds of the time.
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
        weights = digest(network.state_dict())
        self.fingerprint = fingerprint([self.version, type(network), weights, infer, self.place, self.planes])

    def __call__(self, image: MetaTensor, near: MetaTensor | None = None) -> MetaTensor:
        """Return the probability of brain `(1, x, y, z)` on a grid of the network's voxel size, with its affine.

        Args:
            image: a T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity.
            near: where to look, 0/1 `(1, x, y, z)` on any grid, with its affine; elsewhere the probability is 0. Without it,
                all but air is looked at.

        Raises:
            UserError: when the image is no T1 scan, see `tissue_scale`.
        """
        # A tensor of its own: what is done to it here must not be undone when predictions go back to the scan's grid.
        sample: dict[Hashable, Any] = self.place({"image": MetaTensor(image.as_tensor(), affine=image.affine)})
        sample["near"] = is_tissue(sample["image"]) if near is None else resampled(near, sample["image"]) >= 0.5
        cropped: dict[Hashable, Any] = self.crop(sample)
        probability = self.averaged(cropped["image"].as_tensor().to(self.device)).cpu()
        if near is not None:
            probability = probability * cropped["near"].as_tensor().cpu()
        return MetaTensor(probability, affine=cropped["image"].affine)

    def averaged(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the probability of brain in a volume, averaged over the planes; both `(1, x, y, z)`."""
        self.network.to(self.device)
        return mean_over_planes(volume[None], self.by_slice, self.planes)[0]

    def by_slice(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the probability of brain in a volume, both `(1, 1, x, y, z)`, from slices along its last axis."""
        with torch.no_grad():
            logits = torch.as_tensor(self.infer(volume, self.network))
        return logits.softmax(dim=1)[:, 1:]


class BrainExtractor:
    """Find the brain, lesions and ventricles included, in a T1 scan on any grid: whole head, stripped or cropped.

    1. `find` looks for brain in the whole scan.
    2. The largest 26-connected component stays, its holes are filled.
    3. `refine`, when there is one, looks again, finer, up to `margin_mm` from there, and its answer is cleaned likewise, but
       for holes of less than `LEAST_HOLE_ML`.
    4. The probabilities come back to the scan's grid, trilinearly, and are cut at the threshold.

    Args:
        find: a network that tells brains from all else in a head, at coarse voxels.
        refine: one that draws their surface, at fine voxels.
        margin_mm: how far the first may have been wrong.
        threshold: least probability of brain.

    Attributes:
        fingerprint: SHA-256 of all that decides the mask.
    """

    version = 1

    def __init__(
        self, find: BrainNetwork, refine: BrainNetwork | None = None, margin_mm: float = 6.0, threshold: float = 0.5
    ) -> None:
        self.find, self.refine = find, refine
        self.margin_mm, self.threshold = margin_mm, threshold
        self.fingerprint = fingerprint([self.version, find, refine, margin_mm, CLOSED_NOTCH_MM, LEAST_HOLE_ML, threshold])

    def __call__(self, image: MetaTensor) -> torch.Tensor:
        """Return where the brain is.

        Args:
            image: a T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity.

        Returns:
            Booleans `(1, X, Y, Z)`.

        Raises:
            UserError: when there is no brain of `LEAST_BRAIN_ML`, or the image is no T1 scan, see `tissue_scale`.
        """
        found = in_one_piece(self.find(image), self.threshold)
        if self.refine is not None and (found >= self.threshold).any():
            near = ~outside_of(cast(MetaTensor, found >= self.threshold), self.margin_mm)
            found = in_one_piece(self.refine(image, MetaTensor(near[None], affine=found.affine)), self.threshold, LEAST_HOLE_ML)
        brain = resampled(found, image).as_tensor() >= self.threshold
        require_brain(float(brain.sum()) * float(image.pixdim.prod()) / 1000)
        return brain

    def __deepcopy__(self, memo: dict[int, Any]) -> "BrainExtractor":
        """Return itself. Nothing in it changes with use, so the chains that are copied for each scan share the networks."""
        return self


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of named tensors in hexadecimal digits."""
    sha = hashlib.sha256()
    for name, tensor in weights.items():
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().numpy().tobytes())
    return sha.hexdigest()


def in_one_piece(probability: MetaTensor, threshold: float, least_hole_ml: float = 0.0) -> MetaTensor:
    """Return probabilities `(1, X, Y, Z)` with other pieces than the largest set to 0, and the holes in it to 1.

    Args:
        probability: of brain, with its affine.
        threshold: from which on a voxel is brain.
        least_hole_ml: smaller holes stay.
    """
    values = probability.as_tensor()
    found = values >= threshold
    piece = largest_component(found[0].numpy())
    holes = ndimage.binary_fill_holes(piece) & ~piece
    if least_hole_ml > 0:
        numbers, voxels = components(torch.as_tensor(holes))
        holes &= (voxels >= least_voxels(least_hole_ml, float(probability.pixdim.prod()) / 1000))[numbers]
    brain = torch.as_tensor(piece | holes)
    return MetaTensor(torch.where(found == brain, values, brain.to(values.dtype)), affine=probability.affine)


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 26-connected component of a mask; of an empty one, nothing."""
    numbers, sizes = components(torch.as_tensor(mask))
    sizes[0] = 0
    largest: NDArray[np.bool_] = mask & (numbers == sizes.argmax())
    return largest


def require_brain(volume_ml: float) -> None:
    """Raise ValueError unless so much can be a brain."""
    if volume_ml < LEAST_BRAIN_ML:
        raise UserError(
            f"found {volume_ml:.0f} ml of brain; expected at least {LEAST_BRAIN_ML:.0f} ml. Check that this is a T1 scan of a "
            "head and that its axes are labeled rightly; networks trained with --intensities tissue need no brain mask."
        )


class ExtractBraind(MapTransform):
    """Add a scan's brain mask `(1, X, Y, Z)`, 0/1 bytes on the scan's own grid.

    Args:
        keys: the scan, `(1, X, Y, Z)`.
        extract: a `BrainExtractor`, or what takes and returns the same.
        brain_key: where the mask goes.
    """

    version = 1

    def __init__(self, keys: KeysCollection, extract: Callable[[MetaTensor], torch.Tensor], brain_key: str = "brain") -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise UserError(f"got keys {self.keys}; expected one: the scan's.")
        self.extract = extract
        self.brain_key = brain_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its brain mask."""
        image = data[self.keys[0]]
        brain = MetaTensor(self.extract(image).to(image.device, torch.uint8), affine=image.affine)
        return {**data, self.brain_key: brain}


class OutsideBraind(MapTransform, ABC):
    """Overwrite what lies more than some millimeters outside the brain, see `outside_of`: masks of the brain are not exact.

    Args:
        keys: volumes `(C, X, Y, Z)`.
        brain_key: the brain mask `(1, X, Y, Z)` on the same grid, with its affine.
        margin_mm: what is kept around the brain.
    """

    def __init__(self, keys: KeysCollection, brain_key: str = "brain", margin_mm: float = 3.0) -> None:
        super().__init__(keys)
        self.brain_key = brain_key
        self.margin_mm = margin_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes overwritten."""
        sample = dict(data)
        outside = outside_of(sample[self.brain_key], self.margin_mm)
        for key in self.key_iterator(sample):
            sample[key] = sample[key].clone()
            self.overwrite(sample[key], outside)
        return sample

    @abstractmethod
    def overwrite(self, volume: torch.Tensor, outside: torch.Tensor) -> None:
        """Overwrite a volume `(C, X, Y, Z)` where `outside` `(X, Y, Z)`."""


class StripHeadd(OutsideBraind):
    """Make air of a scaled scan outside the brain: scalp, eyes and neck are nothing that a network must learn to pass over.

    Leave a margin for the CSF of the sulci, which brain masks leave out.
    """

    version = 1

    def overwrite(self, volume: torch.Tensor, outside: torch.Tensor) -> None:
        """Write 0, which is air."""
        volume[:, outside] = 0


class KeepInBraind(OutsideBraind):
    """Make background, the first class, of what was predicted outside the brain."""

    def overwrite(self, volume: torch.Tensor, outside: torch.Tensor) -> None:
        """Write the probability 1 for background and 0 for all else."""
        volume[0, outside] = 1
        volume[1:, outside] = 0


def outside_of(mask: MetaTensor, margin_mm: float, notch_mm: float = CLOSED_NOTCH_MM) -> torch.Tensor:
    """Return which voxels lie further than a margin from a mask whose notches are closed.

    The mask grows by margin and notch and shrinks by the notch. So an old infarct that reaches the surface, and that was
    taken for fluid around the brain, still lies inside. On grids finer than `FINE_MM` the distances are those of every second
    voxel, interpolated: a border that is 0.3 mm off on average, in a tenth of the time.

    Args:
        mask: 0/1, `(1, X, Y, Z)`, with its affine.
        margin_mm: how far from the closed mask is not outside.
        notch_mm: half the width of the widest notch that is closed; 0 closes none.

    Returns:
        Booleans `(X, Y, Z)`, on the device of the mask.
    """
    spacing_mm = mask.pixdim.tolist()
    inside = mask.as_tensor()[0] > 0
    if max(spacing_mm) >= FINE_MM:
        return surplus_mm(inside, spacing_mm, margin_mm, notch_mm) > 0
    half = F.avg_pool3d(inside[None, None].float(), 2, ceil_mode=True, count_include_pad=False)[0, 0] >= 0.5
    coarse_mm = surplus_mm(half, [2 * edge_mm for edge_mm in spacing_mm], margin_mm, notch_mm)
    fine_mm = F.interpolate(coarse_mm[None, None], scale_factor=2.0, mode="trilinear")[0, 0]
    return fine_mm[tuple(slice(size) for size in inside.shape)] > 0


def surplus_mm(inside: torch.Tensor, spacing_mm: Sequence[float], margin_mm: float, notch_mm: float) -> torch.Tensor:
    """Return by how many millimeters each voxel `(X, Y, Z)` lies beyond the margin of a mask with closed notches."""
    reach_mm = margin_mm + notch_mm
    rims = [int(reach_mm / edge_mm) + 1 for edge_mm in spacing_mm]  # so that what is outside is seen beyond the edge, too
    padded = F.pad(inside, [rim for rim in reversed(rims) for _ in range(2)])
    beyond_mm = distances_mm(padded, spacing_mm) - reach_mm
    if notch_mm > 0:
        # What is exactly at the notch is outside.
        beyond_mm = float(np.nextafter(notch_mm, np.inf)) - distances_mm(beyond_mm > 0, spacing_mm)
    return beyond_mm[tuple(slice(rim, -rim) for rim in rims)].float()
