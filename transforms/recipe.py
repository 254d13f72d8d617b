"""Chains of transforms with a fingerprint. The fingerprint identifies stored results."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Transform


class Recipe(Compose):
    """MONAI's `Compose` of deterministic transforms, with a hash of the chain.

    The hash covers every transform's class, attributes and `version`. Raise the `version` of a transform of this project when
    its results change; `tests/transforms/test_versions.py` fails if you forget. The hash is computed when the chain is
    created, because MONAI's transforms change when they are used (readers remember their last file).

    Attributes:
        fingerprint: SHA-256 in hexadecimal digits, the same in every process.
    """

    def __init__(self, transforms: Any) -> None:
        super().__init__(transforms)
        self.fingerprint = fingerprint(self.transforms)


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


def fingerprint(thing: Any) -> str:
    """Return the SHA-256, in hexadecimal digits, of values, arrays and transforms, and of lists and dictionaries of them."""
    return hashlib.sha256(json.dumps(parts(thing), sort_keys=True).encode()).hexdigest()


def parts(thing: Any) -> Any:
    """Return a thing as plain lists, dictionaries and values, to be hashed.

    An array is represented by its type, shape and hash, a transform by its class, version and attributes. An object with a
    `fingerprint` attribute (a chain in a chain, a network) is represented by that hash alone. The state of a random transform
    is left out because it differs between processes. Where results must be the same, the sample has a seed.
    """
    if isinstance(known := getattr(thing, "fingerprint", None), str):
        return known
    if isinstance(thing, np.random.RandomState):
        return "random"
    if isinstance(thing, torch.Tensor | np.ndarray):
        values = np.asarray(thing)
        return [str(values.dtype), list(values.shape), hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()]
    if isinstance(thing, partial):
        return ["partial", parts(thing.func), parts(thing.args), parts(thing.keywords)]
    if isinstance(thing, str | int | float | bool | None):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): parts(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [parts(value) for value in thing]
    if inspect.isroutine(thing) or isinstance(thing, type):
        return [f"{thing.__module__}.{thing.__qualname__}", getattr(thing, "version", 0)]
    if hasattr(thing, "__dict__"):
        return [type(thing).__qualname__, getattr(type(thing), "version", 0), parts(vars(thing))]
    return repr(thing)
