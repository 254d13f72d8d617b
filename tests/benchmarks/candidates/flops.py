"""How many floating-point operations a network needs; a multiplication and an addition count as two."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def gflop(network: nn.Module, shape: Sequence[int]) -> float:
    """Return the billions of operations of one forward pass; nothing is computed."""
    network = deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(tuple(shape), device="meta"))
    return counter.get_total_flops() / 1e9
