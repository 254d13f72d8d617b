"""Transfer of small arrays from the host to a device."""

from typing import Any

import torch
from numpy.typing import ArrayLike


def on_device(values: ArrayLike, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return values of the host as a tensor on a device.

    A plain copy to a GPU waits until all queued work is done, and then the GPU is idle until new work arrives. This copy uses
    pinned memory and does not wait.
    """
    numbers: Any = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        numbers = numbers.pin_memory()
    return torch.as_tensor(numbers.to(device, non_blocking=True))
