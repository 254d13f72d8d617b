"""Slices with their neighbors: a 2D network that is shown the slices below and above, as channels, sees some depth."""

import torch


def with_neighbors(volumes: torch.Tensor, chosen: torch.Tensor, neighbors: int) -> torch.Tensor:
    """Return slices of volumes, each with the slices around it as channels; training batches get theirs from `SliceDataset`.

    Args:
        volumes: `(B, 1, H, W, D)`, sliced along D.
        chosen: volume and position of each slice, whole numbers `(N, 2)`.
        neighbors: n, slices on each side; beyond the ends of a volume its last slice is repeated.

    Returns:
        `(N, 2n + 1, H, W)`, the channels from the slice n below to the slice n above.
    """
    volume, position = chosen.unsqueeze(-1).unbind(1)  # (N, 1) each
    steps = torch.arange(-neighbors, neighbors + 1, device=chosen.device)
    return volumes[volume, 0, :, :, (position + steps).clamp(0, volumes.shape[-1] - 1)]
