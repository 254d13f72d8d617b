"""Run one command in several processes; torch's launcher starts them and numbers them by rank.

    python -m torch.distributed.run --nproc_per_node=2 -m monai.bundle run training …

All processes read the same files. Only the first one (rank 0) writes the files of a run. Without the launcher, this module has
no effect. `share` divides the work; functions of ignite and MONAI combine the results.
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

# Long, because preparing a slice store or a cohort takes long; the launcher detects a process that ended at once.
PATIENCE = timedelta(days=30)
Items = TypeVar("Items", bound=Sequence[Any])


def launched() -> int:
    """Return the number of processes that the launcher started on all machines; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def join(device: str) -> None:
    """Join the group of processes that the launcher started; each takes the GPU of its number on its machine.

    Args:
        device: Device of the networks, `cuda` or `cpu`.

    Raises:
        UserError: One GPU is named for all processes, or there are fewer GPUs than processes.
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
    """Make `cuda` mean the GPU of this number in this process; errors as in `join`."""
    if device.index is not None:
        raise UserError(f"--device got {device} for {launched()} processes; allowed are cuda and cpu: each takes its own GPU.")
    if number >= (gpus := torch.cuda.device_count()):
        raise UserError(
            f"got more processes than GPUs on this machine, which has {gpus}; expected at most one process a GPU. "
            f"Give --nproc_per_node={gpus}, or --device cpu."
        )
    torch.cuda.set_device(number)


def show_to_ignite() -> None:
    """Register the group with ignite; hide SLURM, because ignite would ask it for local ranks that it does not know."""
    job = os.environ.pop("SLURM_JOB_ID", None)
    idist.sync()
    if job is not None:
        os.environ["SLURM_JOB_ID"] = job


def is_first() -> bool:
    """Return whether this process writes the files of the run; true without a launcher."""
    return bool(idist.get_rank() == 0)


def is_follower() -> bool:
    """Return whether this process writes no files of the run."""
    return not is_first()


def share(items: Items, first: int = 0) -> Items:
    """Return this process's part of a sequence: every n-th item for n processes; `first` is the number of the first item."""
    count = idist.get_world_size()
    return cast(Items, items[(idist.get_rank() - first) % count :: count])


def merged(own: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of all processes, in the order of their ranks."""
    everyones = cast(list[dict[str, str]], idist.all_gather(dict(own)))
    return {key: value for entries in everyones for key, value in entries.items()}


def spread(network: nn.Module) -> nn.Module:
    """Return the network to call in training: with several processes, its gradients are averaged over all of them.

    It shares the weights of `network`. On GPUs, its BatchNorm layers use mean and variance over the batches of all processes.
    Torch cannot do this on the CPU: there each process uses its own batch, and the running values are those of the first.
    """
    if idist.get_world_size() == 1:
        return network
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(network)


class SharedStatistics:
    """Average the running means and variances of BatchNorm over all processes at the end of each epoch.

    On the CPU they differ after the last step of an epoch. Attach this handler before validation and checkpoints, so that all
    processes validate the network that the first one writes.

    Args:
        network: Network in training.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, trainer: Engine) -> None:
        """Add the handler to `trainer`."""
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
