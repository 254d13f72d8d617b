"""Networks for slices, their losses and inferers. They handle tensors and do not depend on scans or folders.

unet, segnet, resunet     the networks of the Keras study; slice_network is what they share
fused_upsampling          the faster decoder of the ResUNet
losses                    the losses
inferers                  slices, whole volumes, several planes, the mirror image, mixed precision
planes                    the planes in which volumes are sliced
user_error                the errors that every layer raises for a user

The names below are imported at their first use: the command line shows its help without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from strokelesion.networks.user_error import CommandLineError, UserError

if TYPE_CHECKING:
    from strokelesion.networks.inferers import (
        ChannelsLastInferer,
        MirrorInferer,
        MixedPrecisionInferer,
        PlanesInferer,
        VolumeInferer,
        uses_cuda_amp,
    )
    from strokelesion.networks.losses import CrossEntropyDiceLoss, LesionDiceCELoss
    from strokelesion.networks.resunet import ResUNet
    from strokelesion.networks.segnet import SegNet
    from strokelesion.networks.unet import UNet

_MODULES = {
    "inferers": (
        *("ChannelsLastInferer", "MirrorInferer", "MixedPrecisionInferer", "PlanesInferer", "VolumeInferer"),
        "uses_cuda_amp",
    ),
    "losses": ("CrossEntropyDiceLoss", "LesionDiceCELoss"),
    "resunet": ("ResUNet",),
    "segnet": ("SegNet",),
    "unet": ("UNet",),
}


def __getattr__(name: str) -> Any:
    """Return a public name from its module, which is imported now."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"strokelesion.networks.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
