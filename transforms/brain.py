"""Where the brain is: a network finds it once for each scan; intensities, crops and predictions keep to it.

The network comes in from outside, trained; this module brings a scan to it and its answer back to the scan's grid.
"""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import CropForegroundd, MapTransform, Orientationd, ResampleToMatch, Spacingd
from monai.utils import ensure_tuple_rep
from numpy.typing import NDArray
from scipy import ndimage

from strokelesion.transforms.decision import components
from strokelesion.transforms.intensity import ScaleTissued, is_tissue
from strokelesion.transforms.recipe import Recipe, fingerprint

# Less than this is no brain, however it was cropped: that of a newborn has 300 ml.
LEAST_BRAIN_ML = 100.0


class BrainExtractor:
    """Find the brain, lesions and ventricles included, in a T1 scan on any grid: whole head, stripped or cropped.

    1. Bring a copy to RAS and the network's voxel size, scale it on tissue (`ScaleTissued`), cut off the air around it.
    2. Let the network tell brain from background in each axial slice.
    3. Keep the largest 26-connected component and fill its holes.
    4. Bring the probabilities back to the scan's grid, trilinearly, and cut them at the threshold.

    Args:
        network: logits `(B, 2, H, W)` of background and brain from slices `(B, 1, H, W)`; trained, on the CPU.
        spacing_mm: voxel size that the network was trained on; one number for all three axes, or three.
        slice_mm: extent, left-right and posterior-anterior, of the slices that it was trained on.
        batch: slices at once.
        threshold: least probability of brain.

    Attributes:
        fingerprint: SHA-256 of the network's weights and all settings that decide the mask.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        spacing_mm: float | Sequence[float] = 2.0,
        slice_mm: Sequence[float] = (224.0, 256.0),
        batch: int = 8,
        threshold: float = 0.5,
    ) -> None:
        edges_mm = ensure_tuple_rep(spacing_mm, 3)
        # In this order of memory, processors take about two thirds of the time.
        self.network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.place = Recipe(
            [
                Orientationd("image", axcodes="RAS", labels=None),
                Spacingd("image", pixdim=edges_mm, mode="bilinear", dtype=np.float32),
                ScaleTissued("image"),
                CropForegroundd("image", source_key="image", select_fn=is_tissue, allow_smaller=True),
            ]
        )
        self.slice_size = [max(1, round(extent / edge)) for extent, edge in zip(slice_mm, edges_mm[:2], strict=True)]
        self.batch = batch
        self.threshold = threshold
        weights = digest(network.state_dict())
        self.fingerprint = fingerprint([type(network), weights, self.place, self.slice_size, threshold])

    def __call__(self, image: MetaTensor) -> torch.Tensor:
        """Return where the brain is.

        Args:
            image: a T1 scan `(1, X, Y, Z)` with its affine, in any unit of intensity.

        Returns:
            Booleans `(1, X, Y, Z)`.

        Raises:
            ValueError: when there is no brain of `LEAST_BRAIN_ML`, or the image is no T1 scan, see `tissue_scale`.
        """
        # A tensor of its own: what is done to it here must not be undone when predictions go back to the scan's grid.
        placed = self.place({"image": MetaTensor(image.as_tensor(), affine=image.affine)})["image"]
        probability = in_one_piece(self.probability(placed), self.threshold)
        back = ResampleToMatch(mode="bilinear", padding_mode="zeros", dtype=np.float32)
        restored: Any = back(MetaTensor(probability, affine=placed.affine), img_dst=image)
        brain: torch.Tensor = restored.as_tensor() >= self.threshold
        require_brain(float(brain.sum()) * float(image.pixdim.prod()) / 1000)
        return brain

    def probability(self, placed: MetaTensor) -> torch.Tensor:
        """Return the probability of brain, both `(1, X, Y, Z)`, for a scan on the network's grid and scale."""
        # Made anew each time: MONAI's changes when it is used, and threads would mix up their windows.
        inferer = SliceInferer(spatial_dim=2, roi_size=self.slice_size, sw_batch_size=self.batch, overlap=0.25)
        with torch.no_grad():
            logits = torch.as_tensor(inferer(placed.as_tensor()[None], self.network))
        return logits.softmax(dim=1)[0, 1:]

    def __deepcopy__(self, memo: dict[int, Any]) -> "BrainExtractor":
        """Return itself. Nothing in it changes with use, so the chains that are copied for each scan share the network."""
        return self


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of named tensors in hexadecimal digits."""
    sha = hashlib.sha256()
    for name, tensor in weights.items():
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().numpy().tobytes())
    return sha.hexdigest()


def in_one_piece(probability: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return probabilities `(1, X, Y, Z)` with other pieces than the largest set to 0, and the holes in it to 1."""
    found = probability >= threshold
    brain = torch.as_tensor(ndimage.binary_fill_holes(largest_component(found[0].numpy())))
    return torch.where(found == brain, probability, brain.to(probability.dtype))


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 26-connected component of a mask; of an empty one, nothing."""
    numbers, sizes = components(torch.as_tensor(mask))
    sizes[0] = 0
    largest: NDArray[np.bool_] = mask & (numbers == sizes.argmax())
    return largest


def require_brain(volume_ml: float) -> None:
    """Raise ValueError unless so much can be a brain."""
    if volume_ml < LEAST_BRAIN_ML:
        raise ValueError(
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

    def __init__(self, keys: KeysCollection, extract: Callable[[MetaTensor], torch.Tensor], brain_key: str = "brain") -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"got keys {self.keys}; expected one: the scan's.")
        self.extract = extract
        self.brain_key = brain_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its brain mask."""
        image = data[self.keys[0]]
        brain = MetaTensor(self.extract(image).to(torch.uint8), affine=image.affine)
        return {**data, self.brain_key: brain}


class KeepInBraind(MapTransform):
    """Make background of what was predicted more than some millimeters outside the brain.

    Args:
        keys: class probabilities `(C, X, Y, Z)`, background first.
        brain_key: the brain mask `(1, X, Y, Z)` on the same grid, with its affine.
        margin_mm: how far from the brain a prediction still stands: masks of the brain are not exact.
    """

    def __init__(self, keys: KeysCollection, brain_key: str = "brain", margin_mm: float = 3.0) -> None:
        super().__init__(keys)
        self.brain_key = brain_key
        self.margin_mm = margin_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its predictions held to the brain."""
        sample = dict(data)
        outside = outside_of(sample[self.brain_key], self.margin_mm)
        for key in self.key_iterator(sample):
            sample[key] = sample[key].clone()
            sample[key][0, outside] = 1
            sample[key][1:, outside] = 0
        return sample


def outside_of(mask: MetaTensor, margin_mm: float) -> torch.Tensor:
    """Return which voxels `(X, Y, Z)` lie further than a margin from a mask `(1, X, Y, Z)` with affine."""
    distance_mm = ndimage.distance_transform_edt(mask[0].cpu().numpy() == 0, sampling=mask.pixdim.tolist())
    return torch.as_tensor(distance_mm > margin_mm)
