"""Slices with their neighbors as channels, which give a 2D network some context along the third axis."""

import torch


def with_neighbors(volumes: torch.Tensor, chosen: torch.Tensor, neighbors: int) -> torch.Tensor:
    """Return slices of volumes with their neighboring slices as channels; `SliceDataset` does this for training batches.

    Args:
        volumes: Volumes `(B, 1, H, W, D)`, sliced along D.
        chosen: Volume and position of each slice, integers `(N, 2)`.
        neighbors: Number n of slices on each side; beyond the ends of a volume its last slice is repeated.

    Returns:
        Slices `(N, 2n + 1, H, W)`; channels run from the slice n below to the slice n above.
    """
    volume, position = chosen.unsqueeze(-1).unbind(1)  # (N, 1) each
    steps = torch.arange(-neighbors, neighbors + 1, device=chosen.device)
    return volumes[volume, 0, :, :, (position + steps).clamp(0, volumes.shape[-1] - 1)]
