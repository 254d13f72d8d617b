"""One composed scan from its record: the chain of random transforms, seeded by the record, so that it can be made again."""

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from monai.transforms import MapTransform, Transform

from strokelesion.transforms.loading import load_volume
from strokelesion.transforms.recipe import Recipe


class SeededRecipe(Transform):
    """A chain of random transforms that takes its seed from `seed` of each sample: the same record gives the same scan.

    Attributes:
        fingerprint: that of the chain; see `Recipe`.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.chain = Recipe(transforms)
        self.fingerprint = self.chain.fingerprint

    def __call__(self, data: Any) -> Any:
        """Return what the transforms make of the sample."""
        # A copy of its own: chains are shared by threads, and the random state of one scan is not another's.
        chain = deepcopy(self.chain)
        chain.set_random_state(seed=int(data["seed"]))
        return chain(data)


class LoadLesionsd(MapTransform):
    """Read the masks of a record: each item of `lesions` has `path` and gets `mask` `(1, x, y, z)`."""

    version = 1

    def __init__(self) -> None:
        super().__init__(("lesions",))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with its masks."""
        return {**data, "lesions": [{**lesion, "mask": load_volume(lesion["path"])} for lesion in data["lesions"]]}
