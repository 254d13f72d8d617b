"""Random augmentation of slices: one spatial resampling, then intensity changes, for a whole batch on any device.

The five kinds are those of the Keras study: rotation, horizontal and vertical flips, scaling and zoom, elastic deformation,
brightness and contrast. All spatial kinds are combined into one displacement and sampled once. Images are therefore blurred
only once, and image and mask stay aligned.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import MapTransform, RandomizableTransform
from numpy.typing import ArrayLike, NDArray

# Control points of the elastic deformation along height and width.
ELASTIC_GRID = (6, 7)
# Columns of the basis that follow those of the control points, see `separable_basis`.
POSITION, CONSTANT = -2, -1


class RandAugmentSlicesd(RandomizableTransform, MapTransform):
    """Deform image and label map together, and change the image's brightness and contrast.

    Steps for each slice:
        1. With probability `spatial_prob`: rotate by up to `rotation_deg`, scale height and width each by 1 ± `scaling`
           and both by 1 ± `zoom`, and shift by a smooth random field of `elastic_px` standard deviation.
        2. Mirror left-right with `horizontal_flip_prob` and front-back with `vertical_flip_prob`.
        3. Sample once: the image linearly, the label map by nearest neighbor; outside is air.
        4. With probability `intensity_prob`: y = m + (x - m) * (1 ± `contrast`) + (± `brightness`) in tissue, where m is the
           mean tissue of the slice; air stays 0.
        5. With `crop_size`: crop all slices of the batch to one random window of this size. This only reduces the cost of
           training: every part of the slice, including the empty margin, appears in some window.

    Random numbers come from the transform's own state (`set_random_state`) and are drawn on the host, so the same random
    seed gives the same result on every device. At zero strength the batch is returned unchanged, bit for bit.

    Args:
        rotation_deg: Largest rotation in degrees.
        scaling: Largest relative change of each axis separately.
        zoom: Largest relative change of both axes together.
        elastic_px: Standard deviation of the control points' shift in pixels.
        horizontal_flip_prob: Probability of a left-right flip.
        vertical_flip_prob: Probability of a front-back flip.
        brightness: Largest shift, as a share of the median tissue.
        contrast: Largest relative change of contrast.
        spatial_prob: Probability of rotation, scaling, zoom and deformation.
        intensity_prob: Probability of a change of brightness and contrast.
        crop_size: Height and width of the window in pixels; None keeps whole slices.

    Raises:
        ValueError: If the window is larger than the slices.
    """

    def __init__(
        self,
        rotation_deg: float = 15.0,
        scaling: float = 0.1,
        zoom: float = 0.1,
        elastic_px: float = 3.0,
        horizontal_flip_prob: float = 0.5,
        vertical_flip_prob: float = 0.1,
        brightness: float = 0.1,
        contrast: float = 0.2,
        spatial_prob: float = 0.8,
        intensity_prob: float = 0.8,
        crop_size: Sequence[int] | None = None,
    ) -> None:
        MapTransform.__init__(self, ("image", "label"))
        RandomizableTransform.__init__(self, prob=1.0)
        self.rotation_deg = rotation_deg
        self.scaling = scaling
        self.zoom = zoom
        self.elastic_px = elastic_px
        self.flip_probs = np.array([horizontal_flip_prob, vertical_flip_prob])
        self.brightness = brightness
        self.contrast = contrast
        self.spatial_prob = spatial_prob
        self.intensity_prob = intensity_prob
        self.crop_size = crop_size

    def randomize(self, batch_size: int) -> None:
        """Draw the parameters of `batch_size` slices, with the same number of draws for each slice."""
        draw = self.R.uniform(-1, 1, size=(batch_size, 6))
        field = self.R.normal(size=(batch_size, 2, *ELASTIC_GRID))
        chance = self.R.uniform(size=(batch_size, 4))
        moved = chance[:, 0] < self.spatial_prob
        varied = chance[:, 1] < self.intensity_prob
        axes = 1 + self.scaling * draw[:, 1:3] * moved[:, None]
        self._angle_rad = np.deg2rad(self.rotation_deg) * draw[:, 0] * moved
        self._scale = axes * (1 + self.zoom * draw[:, 3] * moved)[:, None]
        self._field_px = self.elastic_px * field * moved[:, None, None, None]
        self._mirror = np.where(chance[:, 2:] < self.flip_probs, -1.0, 1.0)
        self._contrast = 1 + self.contrast * draw[:, 4] * varied
        self._brightness = self.brightness * draw[:, 5] * varied

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the batch with new image and label tensors."""
        batch = dict(data)
        image, label = batch["image"], batch["label"]
        self.randomize(len(image))
        batch["image"], batch["label"] = self._deform(image, label)
        batch["image"] = self._vary(batch["image"])
        if self.crop_size is not None:
            window = self._window(image.shape[-2:], self.crop_size)
            batch |= {key: batch[key][window].contiguous() for key in self.keys}
        return batch

    def _window(self, size: Sequence[int], crop_size: Sequence[int]) -> tuple[Any, ...]:
        """Return the index of a random window."""
        if any(cut > whole for cut, whole in zip(crop_size, size, strict=True)):
            raise ValueError(f"got crop_size {list(crop_size)} for slices of {list(size)}; allowed is up to their size.")
        starts = [self.R.randint(whole - cut + 1) for cut, whole in zip(crop_size, size, strict=True)]
        return (..., *(slice(start, start + cut) for start, cut in zip(starts, crop_size, strict=True)))

    def _deform(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        still = (self._angle_rad == 0) & (self._scale == 1).all(1) & (self._mirror == 1).all(1)
        moved = np.flatnonzero(~(still & (self._field_px == 0).all((1, 2, 3))))
        if not len(moved):
            return image, label
        where, chosen = self._sampling_grid(moved, image), on_device(moved, image.device)
        image, label = image.clone(), label.clone()
        image[chosen] = F.grid_sample(image[chosen], where, mode="bilinear", align_corners=False)
        moved_label = F.grid_sample(label[chosen].to(where.dtype), where, mode="nearest", align_corners=False)
        label[chosen] = moved_label.to(label.dtype)
        return image, label

    def _sampling_grid(self, chosen: NDArray[np.integer[Any]], image: torch.Tensor) -> torch.Tensor:
        """Return the sampling position of each output pixel of the chosen slices, `(N, H, W, 2)` in grid_sample's coordinates.

        Affine map and bicubic field are both separable, so two small matrix products compute their sum.
        """
        height, width = image.shape[-2:]
        rows, columns = (
            on_device(separable_basis(points, size), image.device, image.dtype)
            for points, size in zip(ELASTIC_GRID, (height, width), strict=True)
        )
        core = on_device(self._grid_core(chosen, height, width), image.device, image.dtype)
        return (rows @ (core @ columns.T)).permute(0, 2, 3, 1)

    def _grid_core(self, chosen: NDArray[np.integer[Any]], height: int, width: int) -> NDArray[np.floating[Any]]:
        """Return the weights of each pair of basis functions (height, width) for x and y of the chosen slices."""
        angle, (mirror_h, mirror_w) = self._angle_rad[chosen], self._mirror[chosen].T
        scale_h, scale_w = self._scale[chosen].T * (mirror_h, mirror_w)
        aspect = height / width  # rotation is rigid in pixels, not in normalized coordinates
        core = np.zeros((len(chosen), 2, *(points + 2 for points in ELASTIC_GRID)))
        core[:, :, :-2, :-2] = self._field_px[chosen] * np.array([2 / width, 2 / height])[:, None, None]
        core[:, :, CONSTANT, POSITION] = np.stack([np.cos(angle) * scale_w, np.sin(angle) * scale_w / aspect], axis=1)
        core[:, :, POSITION, CONSTANT] = np.stack([-np.sin(angle) * scale_h * aspect, np.cos(angle) * scale_h], axis=1)
        return core

    def _vary(self, image: torch.Tensor) -> torch.Tensor:
        if ((self._contrast == 1) & (self._brightness == 0)).all():
            return image
        contrast, brightness = (
            on_device(x, image.device, image.dtype)[:, None, None, None] for x in (self._contrast, self._brightness)
        )
        tissue = image > 0
        mean = image.sum((1, 2, 3), keepdim=True) / tissue.sum((1, 2, 3), keepdim=True).clamp(min=1)
        # Slices without a change are multiplied by 1, and 0 is added, so they stay the same bit for bit.
        varied = (image * contrast).add_(mean * (1 - contrast) + brightness).clamp_(min=0)
        return torch.where(tissue, varied, image)


@lru_cache(maxsize=16)
def separable_basis(points: int, size: int) -> NDArray[np.floating[Any]]:
    """Return the basis functions of an axis, `(size, points + 2)`: `points` bicubic ones, the position in [-1, 1], and 1.

    Each row is for one pixel; positions are those of the pixel centers in grid_sample's coordinates.
    """
    points_alone = torch.eye(points, dtype=torch.float64)[None, None]
    bicubic = F.interpolate(points_alone, size=(size, points), mode="bicubic", align_corners=True)[0, 0]
    position = (2 * np.arange(size) + 1) / size - 1
    return np.column_stack([bicubic.numpy(), position, np.ones(size)])


def on_device(values: ArrayLike, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return values of the host as a tensor on a device.

    A plain copy to a GPU waits until all queued work is done, and then the GPU is idle until new work arrives. This copy uses
    pinned memory and does not wait.
    """
    numbers: Any = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        numbers = numbers.pin_memory()
    return torch.as_tensor(numbers.to(device, non_blocking=True))
