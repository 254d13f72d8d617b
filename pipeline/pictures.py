"""Draw pictures of one scan: an axial T1 slice with outlined lesions, anterior up, the patient's left on the left."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

# Outline colors of a panel: main lesion red, sub-lesion cyan.
COLORS = {1: (255, 60, 40), 2: (0, 230, 230)}
BRIGHTEST_SHOWN = 2.0
MARK_COLOR = (255, 255, 255)


def lesion_panel(image: NDArray[np.float32], label: NDArray[np.float32], pred: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return T1, T1 with truth and T1 with prediction side by side, `(H, W, 3)` bytes.

    The slice is the axial slice with the largest true lesion area. Anterior is up; the patient's left is on the left.

    Args:
        image: Scaled T1 `(X, Y, Z)` in RAS, median tissue 1.
        label: True labels `(X, Y, Z)`.
        pred: Predicted labels `(X, Y, Z)`.
    """
    level = int((label > 0).sum((0, 1)).argmax())
    t1, truth, prediction = (np.flipud(volume[..., level].T) for volume in (image, label, pred))
    gray = np.repeat((t1.clip(0, BRIGHTEST_SHOWN) * (255 / BRIGHTEST_SHOWN)).astype(np.uint8)[..., None], 3, axis=2)
    return np.concatenate([gray, outline(gray, truth), outline(gray, prediction)], axis=1)


def outline(picture: NDArray[np.uint8], labels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the picture `(H, W, 3)` with the inner border of each lesion class drawn."""
    drawn = picture.copy()
    for value, color in COLORS.items():
        mask = labels == value
        drawn[mask & ~ndimage.binary_erosion(mask)] = color
    return drawn


def marked_png(panel: NDArray[np.uint8], pixel_mm: tuple[float, float]) -> bytes:
    """Return a panel as PNG with an L at the patient's left; square pixels have the smaller of the two pixel edges.

    Args:
        panel: Picture `(H, W, 3)`.
        pixel_mm: Width and height of a pixel.
    """
    height, width = panel.shape[:2]
    finest_mm = min(pixel_mm)
    size = round(width * pixel_mm[0] / finest_mm), round(height * pixel_mm[1] / finest_mm)
    picture = with_mark(Image.fromarray(panel).resize(size, Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def with_mark(picture: Image.Image, knows_left: bool = True) -> Image.Image:
    """Return a picture with an L on its left side, which is the patient's left, or with `L?` where that was guessed."""
    ImageDraw.Draw(picture).text((3, picture.height // 2), "L" if knows_left else "L?", fill=MARK_COLOR)
    return picture
