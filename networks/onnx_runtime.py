"""Networks computed by ONNX Runtime, which is faster than torch on processors without bfloat16 units.

ONNX Runtime is an extra: `pip install 'strokelesion[onnx]'`. Its logits differ from torch's by rounding only.
"""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import cast

import torch
from torch import nn

from strokelesion.networks.slice_network import SliceNetwork
from strokelesion.networks.user_error import UserError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class OnnxNetwork(SliceNetwork):
    """A trained network computed by ONNX Runtime on the CPU, in single precision.

    Args:
        network: Trained network with its current weights; later changes of the weights have no effect.
        export: Function that returns the ONNX model of the network, see `exported`.

    Raises:
        UserError: If a package of `PACKAGES` is missing.
    """

    def __init__(self, network: SliceNetwork, export: Callable[[SliceNetwork], bytes] | None = None) -> None:
        super().__init__(network.in_channels, network.out_channels)
        if missing := missing_packages():
            raise UserError(f"--engine onnx needs {', '.join(missing)}; install the extra: pip install 'strokelesion[onnx]'.")
        import onnxruntime

        self.size_multiple = network.size_multiple
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        model = (export or exported)(network)
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Map slices of legal size `(B, in_channels, H, W)`, float32 on the CPU, to logits `(B, out_channels, H, W)`.

        Slices are computed one by one. This takes no longer, and ONNX Runtime keeps the memory of the largest batch
        (0.6 GiB for 16 slices).
        """
        slices = x.contiguous()[:, None].numpy()
        return torch.cat([torch.from_numpy(self.session.run(None, {"slices": one})[0]) for one in slices])


class Logits(nn.Module):
    """Module that is exported: `logits` only. The padding in `forward` depends on the size and stays in torch."""

    def __init__(self, network: SliceNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H, W)`."""
        return self.network.logits(x)


def on_engine(
    network: nn.Module,
    engine: str,
    device: str | torch.device,
    bfloat16: bool,
    export: Callable[[SliceNetwork], bytes] | None = None,
) -> nn.Module:
    """Return a trained network as it is, or computed by ONNX Runtime.

    Args:
        network: Trained network.
        engine: `torch`, `onnx` or `auto`; `auto` uses ONNX Runtime if it is installed, supports the network and is faster.
        device: Device that computes the network.
        bfloat16: Whether torch would use bfloat16, which is faster than ONNX Runtime.
        export: Function that returns the ONNX model of the network, see `exported`.

    Raises:
        UserError: If `engine` is `onnx` and ONNX Runtime is not available for this network and device.
    """
    fit = isinstance(network, SliceNetwork) and torch.device(device).type == "cpu"
    if engine == "onnx" and not fit:
        raise UserError(
            f"--engine got onnx with {type(network).__name__} on {device}; allowed are this project's networks on the cpu. "
            "Give --device cpu or --engine torch."
        )
    chosen = engine == "onnx" or (engine == "auto" and fit and not bfloat16 and not missing_packages())
    return OnnxNetwork(cast(SliceNetwork, network), export) if chosen else network


def missing_packages() -> list[str]:
    """Return the packages of `PACKAGES` that are not installed."""
    return [package for package in PACKAGES if find_spec(package) is None]


def exported(network: SliceNetwork) -> bytes:
    """Return the ONNX model of a network's `logits`, for any number of slices of any legal size; this takes some seconds."""
    batch, height, width = (torch.export.Dim(name, max=1024) for name in ("batch", "height", "width"))
    multiple = network.size_multiple
    # The exporter warns about optional packages that are missing.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        program = torch.onnx.export(
            Logits(network).eval(),
            (torch.zeros(2, network.in_channels, 2 * multiple, 3 * multiple),),
            dynamo=True,
            dynamic_shapes=({0: batch, 2: multiple * height, 3: multiple * width},),
            input_names=["slices"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())
