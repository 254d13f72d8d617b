"""Scans from files: the right reader for each format, and what is no single 3D volume in space is refused."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, ITKReader, MetaTensor, NibabelReader
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform
from monai.utils import ImageMetaKey, ensure_tuple

from strokelesion.transforms.sample_error import SampleError

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
# Edges of voxels. Those of ATLAS R3.0 run from 0.25 to 6.2 mm; beyond these two the unit is another, or the header broken.
LEAST_VOXEL_MM, MOST_VOXEL_MM = 0.1, 10.0
# Axes of an affine that span less of the volume that their lengths allow lie in one plane.
FLAT = 1e-4


class SeriesReader(ITKReader):
    """Read the files of one DICOM series, in the order of its slices, as one volume.

    MONAI's reader takes a folder and warns when it holds several series; files it stacks as channels.
    """

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Return ITK's image of the volume."""
        return itk.imread([str(file) for file in ensure_tuple(data)], **kwargs)


class LoadScand(MapTransform):
    """Load a scan: NIfTI and FreeSurfer's .mgz with nibabel, all else with ITK, the files of a DICOM series as one volume.

    Args:
        keys: a path, or the files of a series in order; becomes `(1, X, Y, Z)` with affine (RAS, mm).
        name_key: where a sample says what a series is called, as a path; what is written for it is named so.

    Raises:
        SampleError: when it is no single 3D volume in space, see `load_volume`.
    """

    def __init__(self, keys: KeysCollection, name_key: str = "name") -> None:
        super().__init__(keys)
        self.name_key = name_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the scan in place of its path."""
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = load_volume(sample[key], str(sample.get(self.name_key) or ""))
        return sample


def load_volume(source: PathLike | Sequence[PathLike], name: str = "", dtype: type = np.float32) -> MetaTensor:
    """Load a file, or the files of a DICOM series, as one volume `(1, X, Y, Z)` with affine (RAS, mm).

    Args:
        source: a path, or the files of a series in order.
        name: what it is called in messages and results; its path where there is none.
        dtype: of the values.

    Raises:
        SampleError: when it cannot be read, has several volumes (a fourth axis of length 1 is fine), or its affine places no
            voxels of `LEAST_VOXEL_MM` to `MOST_VOXEL_MM` in space.
    """
    try:
        # The reader comes with the call: MONAI then tries no other and says what this one could not read.
        loaded: Any = LoadImage(image_only=True, dtype=dtype)(source, reader=reader_of(source))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        what = f"cannot be read ({reason}); expected an undamaged image"
        raise SampleError(name or str(source), what, "Copy or download the file again, or move the scan away.") from None
    name = name or str(loaded.meta[ImageMetaKey.FILENAME_OR_OBJ])
    volume: Any = EnsureChannelFirst(channel_dim="no_channel")(one_volume(loaded, name))
    require_space(written_affine(source, volume), name)
    volume.meta[ImageMetaKey.FILENAME_OR_OBJ] = name
    return MetaTensor(volume)


def written_affine(source: Any, volume: MetaTensor) -> torch.Tensor:
    """Return the affine that a header says; MONAI puts another in the place of one that contradicts the voxel size."""
    written: Any = nib.load(source) if isinstance(reader_of(source), NibabelReader) else volume
    return torch.as_tensor(written.affine)


def reader_of(source: PathLike | Sequence[PathLike]) -> ImageReader:
    """Return what reads a file, or the files of a series."""
    if not isinstance(source, str | Path):
        return SeriesReader()
    return NibabelReader() if str(source).lower().endswith(NIBABEL_SUFFIXES) else ITKReader()


def one_volume(image: MetaTensor, name: str) -> MetaTensor:
    """Return an image without axes of length 1 after the third; refuse one with several volumes."""
    shape = tuple(image.shape)
    if len(shape) < 3 or 0 in shape or any(size != 1 for size in shape[3:]):
        raise SampleError(
            name, f"has the shape {shape}; expected one 3D volume", "Choose one, or check that this is a T1 scan."
        )
    volume: Any = image.reshape(shape[:3]) if len(shape) > 3 else image
    return MetaTensor(torch.as_tensor(volume), meta=image.meta)


def require_space(affine: torch.Tensor, name: str) -> None:
    """Raise `SampleError` unless an affine spans space with voxels of `LEAST_VOXEL_MM` to `MOST_VOXEL_MM`."""
    axes = affine[:3, :3].double()
    edges_mm = axes.norm(dim=0)
    if not torch.isfinite(affine).all() or not abs(torch.linalg.det(axes)) > FLAT * edges_mm.prod():
        raise SampleError(
            name,
            "has a singular affine: it places all voxels in one plane or nowhere; expected three axes in space",
            "Repair the header, or export the file again.",
        )
    if not (edges_mm.min() >= LEAST_VOXEL_MM and edges_mm.max() <= MOST_VOXEL_MM):
        size = " x ".join(f"{edge_mm:.3g}" for edge_mm in edges_mm.tolist())
        raise SampleError(
            name,
            f"has voxels of {size} mm; expected edges of {LEAST_VOXEL_MM:g} to {MOST_VOXEL_MM:g} mm",
            "Repair the header; its unit may be another.",
        )
