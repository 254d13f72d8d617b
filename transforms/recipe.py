"""A chain of transforms with a fingerprint, so that what it made can be found again on disk."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from monai.transforms import Compose


class Recipe(Compose):
    """MONAI's `Compose` of deterministic transforms that knows a hash of itself.

    The hash covers every transform's class and attributes and, for this project's transforms, their source. It is taken
    when the chain is made, because MONAI's transforms change when they are used (readers remember their last file).

    Attributes:
        fingerprint: SHA-256 in hexadecimal digits; the same in every process.
    """

    def __init__(self, transforms: Any) -> None:
        super().__init__(transforms)
        self.fingerprint = fingerprint(self.transforms)


def fingerprint(thing: Any) -> str:
    """Return the SHA-256, in hexadecimal digits, of what `describe` says of a thing."""
    return hashlib.sha256(json.dumps(describe(thing), sort_keys=True).encode()).hexdigest()


def describe(thing: Any) -> Any:
    """Return what a transform is made of as plain lists, dictionaries and words.

    Of a thing that has a `fingerprint`, a hash that it took of itself, that is all: chains in chains, networks. The state of
    a random transform is left out: it is another in each process, and where results must be the same the sample has a seed.
    """
    if isinstance(known := getattr(thing, "fingerprint", None), str):
        return known
    if isinstance(thing, np.random.RandomState):
        return "random"
    if isinstance(thing, str | int | float | bool | None):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(value) for value in thing]
    if inspect.isroutine(thing) or isinstance(thing, type):
        return [f"{thing.__module__}.{thing.__qualname__}", own_source(inspect.getmodule(thing))]
    if hasattr(thing, "__dict__"):
        return [type(thing).__qualname__, describe(vars(thing)), own_source(inspect.getmodule(type(thing)))]
    return repr(thing)


def own_source(module: ModuleType | None) -> str:
    """Return the source of a module of this project, nothing for others: their versions rarely change what they do."""
    return inspect.getsource(module) if module is not None and module.__name__.startswith("strokelesion.") else ""
