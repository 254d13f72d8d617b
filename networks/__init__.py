"""The three segmentation networks and what belongs to them; tensors in, tensors out, nothing known of scans or folders."""

from strokelesion.networks.lesion_loss import LesionDiceCELoss
from strokelesion.networks.resunet import ResUNet
from strokelesion.networks.segnet import SegNet
from strokelesion.networks.unet import UNet

__all__ = ["LesionDiceCELoss", "ResUNet", "SegNet", "UNet"]
