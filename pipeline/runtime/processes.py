"""One command in several processes, which torch's launcher starts and numbers: their ranks.

    python -m torch.distributed.run --nproc_per_node=2 -m monai.bundle run training …

All read the same files. The first, rank 0, alone writes what a run leaves behind. Without the launcher all of this does
nothing. Work is divided by `share`, and what was found is put together by ignite's and MONAI's own means.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from strokelesion.networks import UserError

# Processes wait for each other as long as a slice store or a cohort takes; of one that ended the launcher knows at once.
PATIENCE = timedelta(days=30)
Items = TypeVar("Items", bound=Sequence[Any])


def launched() -> int:
    """Return how many processes the launcher started, on all machines together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def join(device: str) -> None:
    """Meet the other processes that the launcher started; each takes the GPU of its number on its machine.

    Args:
        device: `cuda` or `cpu`; where the networks are.

    Raises:
        UserError: when one GPU is named for all, or there are fewer GPUs than processes.
    """
    if launched() == 1 or distributed.is_initialized():
        return
    kind = torch.device(device)
    if kind.type == "cuda":
        take_gpu(kind, int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if kind.type == "cuda" else "gloo", timeout=PATIENCE)
    show_to_ignite()
    if not is_first():
        logging.disable(logging.INFO)


def take_gpu(device: torch.device, number: int) -> None:
    """Make the GPU of this number the one that `cuda` means in this process; errors as of `join`."""
    if device.index is not None:
        raise UserError(f"--device got {device} for {launched()} processes; allowed are cuda and cpu: each takes its own GPU.")
    if number >= (gpus := torch.cuda.device_count()):
        raise UserError(
            f"got more processes than GPUs on this machine, which has {gpus}; expected at most one process a GPU. "
            f"Give --nproc_per_node={gpus}, or --device cpu."
        )
    torch.cuda.set_device(number)


def show_to_ignite() -> None:
    """Let ignite see the group. In a SLURM job it would ask SLURM for local ranks, which knows the launcher only."""
    job = os.environ.pop("SLURM_JOB_ID", None)
    idist.sync()
    if job is not None:
        os.environ["SLURM_JOB_ID"] = job


def is_first() -> bool:
    """Return whether this process is the one that writes; true without a launcher."""
    return bool(idist.get_rank() == 0)


def is_follower() -> bool:
    """Return whether this process is one of those that do not write."""
    return not is_first()


def share(items: Items, first: int = 0) -> Items:
    """Return what of a sequence is this process's: every so manieth item, `first` being the number of its first one."""
    count = idist.get_world_size()
    return cast(Items, items[(idist.get_rank() - first) % count :: count])


def merged(own: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of all processes, those of the first one first."""
    if idist.get_world_size() == 1:
        return dict(own)
    everyones: list[Any] = [None] * idist.get_world_size()
    distributed.all_gather_object(everyones, dict(own))
    return {key: value for entries in everyones for key, value in entries.items()}


def spread(network: nn.Module) -> nn.Module:
    """Return the network as training shall call it: with several processes, one whose gradients are the mean over all.

    Its weights are those of `network` itself. On GPUs, its BatchNorm layers then take mean and variance over the batches of
    all processes; on the CPU torch cannot: each process takes those of its own batch, and the running ones are the first's.
    """
    if idist.get_world_size() == 1:
        return network
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(network)


class SharedStatistics:
    """Give all processes the same running means and variances of BatchNorm at the end of each epoch: their mean.

    After the last step of an epoch they differ on the CPU. Attach before validation and checkpoints, so that all processes
    validate the network that the first one writes.

    Args:
        network: what is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, trainer: Engine) -> None:
        """Follow `trainer`."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.average)

    def average(self) -> None:
        """Replace each statistic by its mean over the processes."""
        if idist.get_world_size() > 1:
            for statistic in filter(torch.is_floating_point, self.network.buffers()):
                statistic.copy_(mean(statistic))


def mean(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over all processes."""
    total: Any = idist.all_reduce(value.clone())
    return torch.as_tensor(total / idist.get_world_size())
