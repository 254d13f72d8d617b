"""Store registrations to MNI space with the results, so that the same brain with the same lesions is registered only once."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from strokelesion.pipeline.runtime.derived_files import derived_path
from strokelesion.pipeline.runtime.files import write_json
from strokelesion.transforms.alignment import Affine
from strokelesion.transforms.registration import METHOD, Registration, register_brain

FOLDER = "registrations"


@dataclass(frozen=True)
class RememberedRegistrations:
    """Register as `register_brain` does, unless the result is already stored.

    A registration is a derived file of what decides it: scan, brain, lesions and `METHOD`; the start changes it by less than
    its error. A scan is not registered again when only other settings change (an atlas, pages, probabilities).

    Attributes:
        folder: Folder of the results; its subfolder `registrations` holds one JSON file per registration.
        register: Function that registers a brain; it raises UserError if it cannot, and this failure is not stored.
    """

    folder: str | Path
    register: Callable[..., Registration] = register_brain

    def __call__(
        self, image: MetaTensor, brain: torch.Tensor, lesions: torch.Tensor | None = None, start: Affine | None = None
    ) -> Registration:
        """Return the registration of a scan to MNI space; arguments and errors are those of `register_brain`."""
        masks = [None if mask is None else mask.as_subclass(torch.Tensor) > 0 for mask in (brain, lesions)]
        made_from = [METHOD, image.affine, image.as_tensor().float(), *masks]
        path = derived_path(Path(self.folder) / FOLDER, "registration", made_from, ".json")
        found = read(path)
        if found is None:
            found = self.register(image, brain, lesions, start)
            write_json(path, {"to_mni": found.to_mni.tolist(), "correlation": found.correlation})
        return found


def read(path: Path) -> Registration | None:
    """Return the registration stored in a file; None if the file is missing or damaged."""
    try:
        found = json.loads(path.read_text())
        return Registration(np.array(found["to_mni"], dtype=float).reshape(4, 4), float(found["correlation"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
