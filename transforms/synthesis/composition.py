"""Transforms that make a synthetic scan from its record, reproducibly: the record contains the random seed."""

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from monai.transforms import MapTransform, Transform

from strokelesion.transforms.reading import load_volume
from strokelesion.transforms.recipe import Recipe


class SeededRecipe(Transform):
    """Apply random transforms with the random seed in `seed` of the sample, so that a record always gives the same scan.

    Attributes:
        fingerprint: Fingerprint of the transforms; see `Recipe`.
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.chain = Recipe(transforms)
        self.fingerprint = self.chain.fingerprint

    def __call__(self, data: Any) -> Any:
        """Return the transformed sample."""
        # Threads share the chain, but each scan needs its own random state.
        chain = deepcopy(self.chain)
        chain.set_random_state(seed=int(data["seed"]))
        return chain(data)


class LoadLesionsd(MapTransform):
    """Load the lesion masks of a record: read `path` of each item of `lesions` and write its `mask` `(1, x, y, z)`."""

    version = 1

    def __init__(self) -> None:
        super().__init__(("lesions",))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the sample with the loaded masks."""
        return {**data, "lesions": [{**lesion, "mask": load_volume(lesion["path"])} for lesion in data["lesions"]]}
