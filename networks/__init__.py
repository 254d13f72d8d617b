"""Networks for slices, their losses and inferers. They handle tensors and do not depend on scans or folders.

unet, segnet, resunet     the networks of the Keras study; slice_network is what they share
fused_upsampling          the faster decoder of the ResUNet
losses                    the losses
inferers                  slices, whole volumes, several planes, the mirror image, mixed precision
planes                    the planes in which volumes are sliced
user_error                the errors that every layer raises for a user
"""

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
from strokelesion.networks.user_error import CommandLineError, UserError

__all__ = [
    "ChannelsLastInferer",
    "CommandLineError",
    "CrossEntropyDiceLoss",
    "LesionDiceCELoss",
    "MirrorInferer",
    "MixedPrecisionInferer",
    "PlanesInferer",
    "ResUNet",
    "SegNet",
    "UNet",
    "UserError",
    "VolumeInferer",
    "uses_cuda_amp",
]
