"""The plane that the slices of a sample lie in: axial, coronal or sagittal."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, Orientationd

from strokelesion.networks.planes import AXIAL, PLANES


class TurnToPlaned(MapTransform):
    """Turn volumes so that slices along their last axis lie in the plane that the sample names.

    Args:
        keys: volumes `(C, X, Y, Z)` in RAS, with their affine; missing keys are skipped.
        plane_key: key of the plane, one of `PLANES`; samples without it keep their axes: their slices are axial.
    """

    version = 1

    def __init__(self, keys: KeysCollection, plane_key: str = "plane") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.plane_key = plane_key
        self.turns = {
            plane: Orientationd(keys, axcodes="".join("RAS"[axis] for axis in axes), labels=None, allow_missing_keys=True)
            for plane, axes in PLANES.items()
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its volumes turned."""
        turned: dict[Hashable, Any] = self.turns[data.get(self.plane_key, AXIAL)](data)
        return turned
