"""Networks exported for another engine and stored on disk, so that the same weights are exported only once."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from torch import nn

from strokelesion.pipeline.runtime.files import write_bytes
from strokelesion.transforms.recipe import fingerprint

# Packages that make an export; a new version of one of them needs a new export.
MAKERS = ("torch", "onnxscript")


@dataclass(frozen=True)
class RememberedExports:
    """Export a network unless its export exists already.

    The SHA-256 of the network's class and weights and of the versions of `MAKERS` identifies an export.

    Attributes:
        folder: Folder with one file `<SHA-256>.onnx` per export; created if it is missing.
        export: Function that exports a network.
    """

    folder: str | Path
    export: Callable[[nn.Module], bytes]

    def __call__(self, network: nn.Module) -> bytes:
        """Return the export of a network."""
        made_of = [type(network).__name__, network.state_dict(), *map(version, MAKERS)]
        path = Path(self.folder) / f"{fingerprint(made_of)}.onnx"
        if not path.is_file():
            write_bytes(path, self.export(network))
        return path.read_bytes()
