"""How fast saved predictions are scored, and whether memory grows with their number.

    python tests/benchmarks/score_scans.py [--scans 200] [--probabilities] [--workers 2]

Scans are those of the phantom cohort (197x233x189, made if need be), again and again;
their predictions are the truth moved, eroded or dilated, with false positives strewn in, each different. They are
scored in four calls of growing size, as `evaluating` and `scoring` score them: files read, tables and pictures written.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from candidates.bundle import configured
from monai.transforms import Compose
from scipy import ndimage

from strokelesion.pipeline.cohorts.layouts import read_cohort
from strokelesion.pipeline.evaluation.scoring import score_predictions
from strokelesion.pipeline.synthesis.phantom import dataset_or_phantom
from strokelesion.transforms import LabelLesionsd

SHARES = (0.1, 0.25, 0.5, 1.0)
FALSE_POSITIVES = 20


def disturbed(label, number):
    """Return a prediction that is wrong in the ways that networks are."""
    generator = np.random.default_rng(number)
    grow = (ndimage.grey_erosion, ndimage.grey_dilation)[number % 2]
    pred = np.roll(grow(label, size=3), generator.integers(-3, 4, 3), axis=(0, 1, 2))
    for corner in generator.integers(40, 130, (FALSE_POSITIVES, 3)):
        pred[tuple(slice(c, c + s) for c, s in zip(corner, generator.integers(1, 6, 3), strict=True))] = generator.integers(
            1, 3
        )
    return pred


def write_item(record, truth, number, folder, probabilities):
    """Write the prediction of one scan; return the item to score."""
    pred = disturbed(np.asarray(truth[0]), number)
    item = {**record, "subject": f"{record['subject']}-{number}", "pred": str(folder / f"{number}_lesion.nii.gz")}
    nib.save(nib.Nifti1Image(pred, np.asarray(truth.affine)), item["pred"])
    if probabilities:
        item["probabilities"] = str(folder / f"{number}_probabilities.nii.gz")
        soft = np.stack([ndimage.gaussian_filter((pred == value).astype(np.float32), 1.5) for value in range(3)], axis=-1)
        nib.save(nib.Nifti1Image(soft / soft.sum(-1, keepdims=True), np.asarray(truth.affine)), item["probabilities"])
    return item


def write_items(config, scans, folder, probabilities):
    """Write predictions for so many scans; return the items to score."""
    records = read_cohort(dataset_or_phantom(None))
    read = Compose([config.get_parsed_content("traced"), LabelLesionsd(label_key="truth")])
    truths = [read(dict(record))["truth"] for record in records]
    chosen = [number % len(records) for number in range(scans)]
    return [write_item(records[one], truths[one], number, folder, probabilities) for number, one in enumerate(chosen)]


def peak_gib():
    """Return the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--probabilities", action="store_true")
    options = parser.parse_args()
    config = configured("resunet", "scoring")
    transform = config.get_parsed_content("scorable")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        items = write_items(config, options.scans, Path(folder), options.probabilities)
        for share in SHARES:
            some = items[: max(1, round(share * len(items)))]
            started_s = time.perf_counter()
            score_predictions(some, transform, Path(folder) / "scores", {"network": "benchmark"}, options.workers)
            rows.append((len(some), time.perf_counter() - started_s, peak_gib()))
    print(f"\n{'scans':>6} {'seconds':>9} {'scans per s':>12} {'peak memory so far, GiB':>24}")
    for scans, elapsed_s, peak in rows:
        print(f"{scans:6d} {elapsed_s:9.1f} {scans / elapsed_s:12.2f} {peak:24.2f}")


if __name__ == "__main__":
    main()
