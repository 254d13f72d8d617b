"""Networks for slices, their losses and inferers; tensors in, tensors out, nothing known of scans or folders.

unet, segnet, resunet                     the networks of the Keras study; slice_network is what they share
losses                                    the losses
volume, planes, mirror, precision         inferers: whole volumes, several planes, the mirror image, half precision
neighbors                                 slices with their neighbors as channels
onnx_runtime                              networks as ONNX
user_error                                the errors that every layer raises for a user
"""

from strokelesion.networks.losses import CrossEntropyDiceLoss, LesionDiceCELoss
from strokelesion.networks.resunet import ResUNet
from strokelesion.networks.segnet import SegNet
from strokelesion.networks.unet import UNet
from strokelesion.networks.user_error import CommandLineError, UserError

__all__ = ["CommandLineError", "CrossEntropyDiceLoss", "LesionDiceCELoss", "ResUNet", "SegNet", "UNet", "UserError"]
