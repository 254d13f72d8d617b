"""Keras on TensorFlow, as the Keras study trained: 2D NIfTI slices read one by one with nibabel, Keras' own augmentation.

    python -m candidates.training_keras FOLDER resunet|unet|segnet single|bfloat16 [STEPS]

Augmentation is `ImageDataGenerator`'s: rotation, zoom and flips by SciPy, image by image; it knows no elastic deformation, so
there is none. Whether XLA compiles the step is `XLA` below; with it, a step took twice as long. Keras brings batches while it
computes, so its data work is given as the share of time that went by in it, not as waiting.
"""

import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import nibabel as nib
import numpy as np
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from candidates.keras_networks import CLASSES, build, cce_dice
from candidates.measured import Laps, report

BATCH, WARM_UP = 32, 2
XLA = False
STRENGTHS: dict[str, Any] = {"rotation_range": 15, "zoom_range": 0.2, "fill_mode": "constant"}
STRENGTHS |= {"horizontal_flip": True, "vertical_flip": True}


class NiftiSlices(keras.utils.PyDataset):
    """Batches of slices and one-hot label maps, read and augmented one by one."""

    def __init__(self, folder: Path, steps: int | None) -> None:
        super().__init__()
        self.images, self.labels = (sorted(folder.glob(f"epoch/*_{kind}.nii")) for kind in ("t1", "lesion"))
        self.steps, self.working_s = steps, 0.0
        self.of_image = ImageDataGenerator(**STRENGTHS, interpolation_order=1)
        self.of_label = ImageDataGenerator(**STRENGTHS, interpolation_order=0)
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return self.steps or -(-len(self.images) // BATCH)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        began_s = perf_counter()
        chosen = range(len(self.images))[number * BATCH : (number + 1) * BATCH]
        images, labels = zip(*map(self.item, chosen), strict=True)
        self.working_s += perf_counter() - began_s
        return np.stack(images), np.stack(labels)

    def item(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one slice `(H, W, 1)` and its classes `(H, W, 3)`."""
        image, label = (nib.load(files[number]).get_fdata(dtype=np.float32)[..., None] for files in (self.images, self.labels))
        how = self.of_image.get_random_transform(image.shape)
        image, label = self.of_image.apply_transform(image, how), self.of_label.apply_transform(label, how)
        image = image * self.rng.uniform(0.8, 1.2) + (image > 0) * self.rng.uniform(-0.1, 0.1)
        return image, np.eye(CLASSES, dtype=np.float32)[label[..., 0].astype(int)]


def step_s(model: keras.Model, batch: tuple[np.ndarray, np.ndarray]) -> float:
    """Return how long a step takes whose batch is there; the first one warms up."""
    laps = Laps()
    for _ in range(3):
        model.train_on_batch(*batch)
        laps.mark()
    return laps.seconds() / 2


def main() -> None:
    """Measure and print."""
    folder, network, numbers = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if numbers == "bfloat16" else "float32")
    data = NiftiSlices(folder, int(sys.argv[4]) if sys.argv[4:] else None)
    model = build(network)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=cce_dice, jit_compile=XLA)
    laps = Laps()

    def end_step(batch: int, logs: Any) -> None:
        laps.mark()
        if batch + 1 == WARM_UP:
            data.working_s = 0.0

    clock = keras.callbacks.LambdaCallback(on_train_batch_end=end_step)
    model.fit(data, epochs=1, shuffle=False, callbacks=[clock], verbose=0)
    elapsed_s = laps.seconds(first=WARM_UP - 1)
    slices = min(len(data) * BATCH, len(data.images)) - WARM_UP * BATCH
    report(
        ("tensorflow-cpu", "keras"),
        epoch_slices_per_s=slices / elapsed_s,
        data_work_percent=100 * data.working_s / elapsed_s,
        parameters=sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        step_slices_per_s=BATCH / step_s(model, data[0]),
    )


if __name__ == "__main__":
    main()
