"""Number format of a forward pass: half precision where the hardware supports it, single precision elsewhere.

On CUDA, MONAI's engines do this (`amp`). On processors with bfloat16 units, the inferer below does it; a training step of the
ResUNet then takes about a third of its fp32 time.
"""

import platform
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether the device is a processor that multiplies bfloat16 in hardware (AVX512-BF16, AMX or similar)."""
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # On Intel and AMD, torch also reports plain AVX512 processors, which emulate bfloat16 and are slower with it.
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has_units or platform.machine() not in ("x86_64", "AMD64")


def uses_cuda_amp(amp: bool, device: str | torch.device) -> bool:
    """Return whether MONAI's engines use half precision; they do so on CUDA only."""
    return amp and torch.device(device).type == "cuda"


class MixedPrecisionInferer(Inferer):
    """Run another inferer under CPU autocast to bfloat16, and return its predictions in single precision.

    Devices without fast bfloat16 keep single precision, see `has_fast_bfloat16`.

    Args:
        inferer: Inferer for slices or volumes, such as `SimpleInferer` or `VolumeInferer`.
        amp: Whether to use half precision.
        device: Device of the network.
    """

    def __init__(self, inferer: Inferer, amp: bool, device: str | torch.device) -> None:
        super().__init__()
        self.inferer = inferer
        self.enabled = amp and has_fast_bfloat16(torch.device(device))

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return `inferer(inputs, network)` as float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.enabled):
            prediction = self.inferer(inputs, network, *args, **kwargs)
        return prediction.float() if self.enabled else prediction
