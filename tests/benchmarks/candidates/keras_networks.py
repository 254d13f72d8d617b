"""The three networks in Keras, after networks/*.py: the same layers, widths, normalization, and numbers of parameters."""

from collections.abc import Callable, Sequence

import keras
from keras import KerasTensor, Model, layers

SIZE = (192, 224)
CLASSES = 3


def convolution(x: KerasTensor, width: int, normalized: bool = True, relu: bool = True, stride: int = 1) -> KerasTensor:
    """Return 3x3 convolution and, where asked for, BatchNorm and ReLU."""
    x = layers.Conv2D(width, 3, strides=stride, padding="same")(x)
    x = layers.BatchNormalization()(x) if normalized else x
    return layers.ReLU()(x) if relu else x


def residual(x: KerasTensor, width: int, stride: int = 1) -> KerasTensor:
    """Return the sum of a 1x1 shortcut and two convolutions, rectified."""
    shortcut = layers.BatchNormalization()(layers.Conv2D(width, 1, strides=stride)(x))
    return layers.ReLU()(layers.Add()([shortcut, convolution(convolution(x, width, stride=stride), width)]))


def twice(x: KerasTensor, width: int) -> KerasTensor:
    """Return two convolutions without normalization."""
    return convolution(convolution(x, width, normalized=False), width, normalized=False)


def resunet(x: KerasTensor, widths: Sequence[int] = (16, 32, 64, 128, 256)) -> KerasTensor:
    """Return the features of the residual U-Net."""
    x, skips = convolution(x, widths[0]), []
    for width in widths[1:]:
        skips.append(x)
        x = residual(x, width, stride=2)
    x = convolution(convolution(x, widths[-1]), widths[-1])
    for width in reversed(widths[:-1]):
        x = residual(layers.Concatenate()([layers.UpSampling2D()(x), skips.pop()]), width)
    return x


def unet(x: KerasTensor, widths: Sequence[int] = (32, 64, 128, 256, 512)) -> KerasTensor:
    """Return the features of the U-Net."""
    x, skips = twice(x, widths[0]), []
    for width in widths[1:]:
        skips.append(x)
        x = twice(layers.MaxPooling2D()(x), width)
    for width in reversed(widths[:-1]):
        x = twice(layers.Concatenate()([skips.pop(), layers.Conv2DTranspose(width, 2, strides=2)(x)]), width)
    return x


def segnet(x: KerasTensor, widths: Sequence[int] = (64, 128, 256, 512, 512)) -> KerasTensor:
    """Return the features of SegNet with nearest upsampling."""
    for width in widths:
        x = layers.MaxPooling2D()(convolution(x, width))
    for width in (widths[-1], *reversed(widths[:-1])):
        x = convolution(layers.UpSampling2D()(x), width, relu=False)
    return x


NETWORKS: dict[str, Callable[[KerasTensor], KerasTensor]] = {"resunet": resunet, "unet": unet, "segnet": segnet}


def build(name: str) -> Model:
    """Return a network from T1 `(B, 192, 224, 1)` to probabilities `(B, 192, 224, 3)`, in single precision."""
    image = keras.Input((*SIZE, 1))
    logits = layers.Conv2D(CLASSES, 1)(NETWORKS[name](image))
    return Model(image, layers.Softmax(dtype="float32")(logits))


def cce_dice(truth: KerasTensor, guess: KerasTensor) -> KerasTensor:
    """Return categorical cross-entropy plus 1 - Dice over batch and pixels, mean over classes, as `cce_dice` is."""
    truth = keras.ops.cast(truth, "float32")
    cce = keras.ops.mean(keras.losses.categorical_crossentropy(truth, guess))
    inside = keras.ops.sum(truth * guess, axis=(0, 1, 2))
    both = keras.ops.sum(truth**2 + guess**2, axis=(0, 1, 2))
    return cce + 1 - keras.ops.mean((2 * inside + 1e-5) / (both + 1e-5))
