"""Models on disk for tests: a network of known behavior or with fresh weights, and what its file says of it."""

from pathlib import Path

import torch

from strokelesion.networks import ResUNet
from strokelesion.pipeline.models.description import Decision, Description, HeldOut, Protocol
from strokelesion.pipeline.models.model_files import RELEASED, write_checkpoint, write_released

RESUNET = "strokelesion.networks.ResUNet"
# Training narrower ones ends the process: torch 2.13 on the CPU, channels last.
CHANNELS = [16, 32]
HELD_OUT = HeldOut(split="5-fold", fold=0, split_seed=0, sub_lesions="masks")


def write_model(path, network, target, arguments=None, decision=None, held_out=HELD_OUT, training=None, state=None, **protocol):
    """Write a model and return its path as text.

    Args:
        path: `*.safetensors` for a released model, else a checkpoint.
        network: the network, whose weights are written.
        target: its class, as a bundle file names it.
        arguments: those of its class.
        decision: options of `Decision`.
        held_out: what its training held out; released models do not say.
        training: summary of the training.
        state: what else a checkpoint holds.
        protocol: options of `Protocol`; at 4 mm if nothing else is said.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_released = path.suffix == RELEASED
    description = Description(
        network={"_target_": target, **(arguments or {})},
        protocol=Protocol(**{"spacing_mm": (4.0, 4.0, 4.0), **protocol}),
        decision=Decision(**(decision or {})),
        held_out=None if is_released else held_out,
        training=training or {},
    )
    if is_released:
        write_released(path, description, network.state_dict())
    else:
        write_checkpoint(path, description, network.state_dict(), {"epoch": 1, "init": None, **(state or {})})
    return str(path)


def small_resunet(seed=5, **arguments):
    """Return a small network; another seed than the bundles': a run that is not started from its weights has others."""
    torch.manual_seed(seed)
    return ResUNet(channels=CHANNELS, **arguments)


def write_small(path, **options):
    """Write the small network as a model and return its path as text; `options` are those of `write_model`."""
    return write_model(path, small_resunet(), RESUNET, {"channels": CHANNELS}, **options)
