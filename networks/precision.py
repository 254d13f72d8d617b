"""Which number format a forward pass uses: half precision where the hardware multiplies it, single elsewhere.

On CUDA MONAI's engines do this themselves (`amp`). On processors with bfloat16 units the inferer below does it: a training
step of the ResUNet takes about a third of its fp32 time there.
"""

import platform
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether this is a processor that multiplies bfloat16 in hardware (AVX512-BF16, AMX or the like)."""
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # Of processors by Intel and AMD, torch says so of those with plain AVX512, too, which imitate it and are slower for it.
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has_units or platform.machine() not in ("x86_64", "AMD64")


class MixedPrecisionInferer(Inferer):
    """Let another inferer run under CPU autocast to bfloat16; predictions come back in single precision.

    Args:
        inferer: how slices or volumes go through the network, such as `SimpleInferer` or `VolumeInferer`.
        enabled: false hands everything on unchanged.
    """

    def __init__(self, inferer: Inferer, enabled: bool) -> None:
        super().__init__()
        self.inferer = inferer
        self.enabled = enabled

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return `inferer(inputs, network)` as float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.enabled):
            prediction = self.inferer(inputs, network, *args, **kwargs)
        return prediction.float() if self.enabled else prediction
