"""The three segmentation networks, their losses and inferers. They take and return tensors; they know no scans or folders."""

from strokelesion.networks.losses import CrossEntropyDiceLoss, LesionDiceCELoss
from strokelesion.networks.resunet import ResUNet
from strokelesion.networks.segnet import SegNet
from strokelesion.networks.unet import UNet
from strokelesion.networks.user_error import CommandLineError, UserError

__all__ = ["CommandLineError", "CrossEntropyDiceLoss", "LesionDiceCELoss", "ResUNet", "SegNet", "UNet", "UserError"]
