"""Small numbers on their way from the host to the device that works with them."""

from typing import Any

import torch
from numpy.typing import ArrayLike


def on_device(values: ArrayLike, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return numbers of the host as a tensor on a device.

    A plain copy to a GPU waits until all work given to it before is done, and the GPU then waits for the next. This one goes
    through pinned memory and waits for nothing.
    """
    numbers: Any = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        numbers = numbers.pin_memory()
    return torch.as_tensor(numbers.to(device, non_blocking=True))
