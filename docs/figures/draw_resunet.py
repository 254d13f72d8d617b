"""Draw ResUNet: channels and sizes of each stage, as the network computes them for a slice of 192x224 voxels.

python docs/figures/draw_resunet.py
"""

from collections.abc import Callable
from pathlib import Path

import torch
from svg import BLUE, GRAY, ORANGE, PALE_BLUE, PALE_ORANGE, WHITE, arrow, box, figure, text
from torch import nn

from strokelesion.networks import ResUNet

WIDTH = 800
SLICE = (1, 1, 192, 224)
TOP, STEP, HEIGHT = 86, 74, 44
LEFT, INDENT, BLOCK = 16, 46, 150
Shape = tuple[int, ...]
NOTES = (
    "Encoder stage: 3×3 convolution of stride 2 and 3×3 convolution, plus a 1×1 shortcut of stride 2.",
    "Decoder stage: nearest upsampling by 2, concatenation with the skip, then the same without stride.",
    "Each convolution has BatchNorm; ReLU follows 3×3 ones and the sum. Stem: one 3×3 convolution; bridge: two.",
    "A 1×1 convolution makes the logits: background, main lesion and sub-lesion.",
)


def shapes_of(network: ResUNet) -> dict[str, Shape]:
    """Return the output `(C, H, W)` of the stem, of each stage, of the bridge and of the classifier."""
    found: dict[str, Shape] = {}
    stages = {"stem": network.stem, "bridge": network.bridge, "classifier": network.classifier}
    stages |= {f"encoder stage {number}": stage for number, stage in enumerate(network.encoder, start=1)}
    stages |= {f"decoder stage {number}": stage for number, stage in enumerate(network.decoder, start=1)}
    for name, stage in stages.items():
        stage.register_forward_hook(keep(found, name))
    with torch.inference_mode():
        network.eval()(torch.zeros(SLICE))
    return found


def keep(found: dict[str, Shape], name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
    """Return a hook that stores the shape of a stage's output."""

    def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        found[name] = tuple(output.shape[1:])

    return hook


def left(level: int) -> float:
    """Return the left edge of the encoder's block at a level, 0 for full resolution."""
    return LEFT + INDENT * level


def right(level: int) -> float:
    """Return the left edge of the decoder's block at a level."""
    return WIDTH - LEFT - BLOCK - INDENT * level


def top(level: int) -> float:
    """Return the upper edge of the blocks at a level."""
    return TOP + STEP * level


def size(shape: Shape) -> str:
    """Return a shape as text."""
    return " × ".join(map(str, shape))


def block(x: float, y: float, name: str, shape: Shape, fill: str, color: str) -> list[str]:
    """Return the box of a stage, with its name and the shape of its output."""
    middle = x + BLOCK / 2
    title = text(middle, y + 18, name, 13, color, weight="bold")
    return [box(x, y, BLOCK, HEIGHT, fill, color), title, text(middle, y + 36, size(shape))]


def draw_level(level: int, depth: int, found: dict[str, Shape]) -> list[str]:
    """Return encoder and decoder at a level: their blocks, the skip, the way down from the encoder and up to the decoder."""
    encoder, decoder = f"encoder stage {level}" if level else "stem", f"decoder stage {depth - level}"
    y, down, up = top(level), left(level + 1) + 20, right(level + 1) + BLOCK - 20
    return [
        *block(left(level), y, encoder, found[encoder], PALE_BLUE, BLUE),
        *block(right(level), y, decoder, found[decoder], PALE_ORANGE, ORANGE),
        arrow((left(level) + BLOCK, y + HEIGHT / 2), (right(level) - 1, y + HEIGHT / 2), color=GRAY, dash="5 3"),
        arrow((down, y + HEIGHT), (down, top(level + 1) - 1)),
        arrow((up, top(level + 1)), (up, y + HEIGHT + 1)),
    ]


def draw_ends(found: dict[str, Shape]) -> list[str]:
    """Return what goes into the network and what comes out."""
    x_in, x_out = left(0) + BLOCK / 2, right(0) + BLOCK / 2
    return [
        text(x_in, 58, f"slice: {size(SLICE[1:])}"),
        arrow((x_in, 64), (x_in, TOP - 1)),
        text(x_out, 58, f"logits: {size(found['classifier'])}"),
        arrow((x_out, TOP), (x_out, 64)),
        text(WIDTH / 2, TOP + HEIGHT / 2 - 7, "skip: concatenated", 12.5, GRAY),
    ]


def draw() -> str:
    """Return the figure."""
    network = ResUNet()
    found, depth = shapes_of(network), len(network.encoder)
    y = top(depth)
    deepest = f"encoder stage {depth}"
    title = f"ResUNet: {sum(p.numel() for p in network.parameters()):,} parameters; channels × height × width for one slice"
    shapes = [
        text(LEFT, 28, title, 15, anchor="start", weight="bold"),
        *draw_ends(found),
        *(shape for level in range(depth) for shape in draw_level(level, depth, found)),
        *block(left(depth), y, deepest, found[deepest], PALE_BLUE, BLUE),
        *block(right(depth), y, "bridge", found["bridge"], WHITE, BLUE),
        arrow((left(depth) + BLOCK, y + HEIGHT / 2), (right(depth) - 1, y + HEIGHT / 2)),
        *(text(LEFT, y + HEIGHT + 34 + 21 * row, note, anchor="start") for row, note in enumerate(NOTES)),
    ]
    return figure(WIDTH, int(y) + HEIGHT + 115, "Architecture of ResUNet", shapes)


if __name__ == "__main__":
    Path(__file__).with_name("resunet.svg").write_text(draw())
