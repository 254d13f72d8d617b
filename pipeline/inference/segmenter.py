"""Segment scans from Python: the model is loaded once, and results stay in memory."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import pandas as pd
import torch
from monai.bundle import ConfigWorkflow
from monai.data import Dataset

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.scan_images import as_image, either_lesion
from strokelesion.pipeline.derivatives.table_columns import NAMED_BY, TABLES
from strokelesion.pipeline.finding.scans import find_scans
from strokelesion.pipeline.inference.prediction import predict_scans
from strokelesion.pipeline.lesions.measuring import MeasuredScan, find_start, measure_scan
from strokelesion.pipeline.runtime.errors import user_error
from strokelesion.transforms.registration import register_brain

logger = logging.getLogger(__name__)
BUNDLE = Path(__file__).parents[2] / "bundles" / "resunet.json"


@dataclass(frozen=True)
class Segmentation:
    """Result of one scan.

    Attributes:
        mask: All lesions, 0 and 1, on the scan's own grid.
        classes: 0 background, 1 main lesion, 2 sub-lesion, on the same grid.
        probability: Probability of either lesion class, on the same grid.
        lesions: One row for each lesion, with the columns of `lesions.tsv`.
        volumes: The scan's row of `volumes.tsv`, by column.
        warnings: What is doubtful about the scan or its result.
    """

    mask: nib.Nifti1Image
    classes: nib.Nifti1Image
    probability: nib.Nifti1Image
    lesions: pd.DataFrame
    volumes: dict[str, Any]
    warnings: tuple[str, ...]


class Segmenter:
    """Segment scans one by one, as the command `inference` does.

    Args:
        weights: File of the model, or `pretrained`.
        device: Device of the networks: `auto`, `cpu`, `cuda` or `cuda:N`.
        positions: Whether to register each brain to MNI space. Without it, positions, hemispheres and tissues are unknown.
        options: Further options of the command, such as `threshold`.

    Raises:
        UserError: The model cannot be used, or an option is wrong.
    """

    def __init__(
        self, weights: str | Path = "pretrained", device: str = "auto", positions: bool = True, **options: Any
    ) -> None:
        options = {"weights": str(weights), "device": device, **options}
        with silence_about_bundle():
            workflow = ConfigWorkflow(str(BUNDLE), run_id="inference", logging_file=False, **options)
        with user_errors_only():
            workflow.initialize()
            content = workflow.parser.get_parsed_content
            self.evaluator, self.preprocessing, self.decide = map(content, ("evaluator", "preprocessing", "decide"))
        self.register = register_brain if positions else None

    def __call__(self, scan: str | Path | nib.spatialimages.SpatialImage) -> Segmentation:
        """Return the segmentation of a scan.

        Args:
            scan: File, folder of one DICOM series, or image of nibabel.

        Raises:
            UserError: The scan cannot be read, or is no T1 scan of a head.
        """
        with as_path(scan) as path:
            items = find_scans(path)
            for left_out in items.left_out:
                logger.warning("left out: %s", ": ".join(left_out))
            if len(items) != 1:
                raise UserError(f"{path} holds {len(items)} scans; expected one. Name one of them, or use the command segment.")
            beside = None if self.register is None else find_start
            ((item, outcome),) = predict_scans(self.evaluator, Dataset(items, self.preprocessing), beside)
            with user_errors_only():
                if isinstance(outcome, Exception):
                    raise outcome
                return as_segmentation(measure_scan(item, outcome, self.decide, self.register))


@contextmanager
def silence_about_bundle() -> Iterator[None]:
    """Silence what MONAI says when it reads a bundle file: that files of others may run any code, and that it logs nothing."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="parsing config_file", category=UserWarning)
        try:
            yield
        finally:
            logging.disable(level)


@contextmanager
def as_path(scan: str | Path | Any) -> Iterator[Path]:
    """Yield the path of a scan; an image in memory is written to a temporary file."""
    if isinstance(scan, str | Path):
        yield Path(scan)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scan.nii.gz")
        nib.save(scan, path)
        yield path


@contextmanager
def user_errors_only() -> Iterator[None]:
    """Raise the error for the user instead of those that MONAI made of it; all others stay as they are."""
    try:
        yield
    except Exception as error:
        raise user_error(error) or error from None


def as_segmentation(scan: MeasuredScan) -> Segmentation:
    """Return the result of a measured scan."""
    labels = scan.labels[0]
    columns = [column for column in TABLES["lesions"].columns if column not in NAMED_BY]
    return Segmentation(
        mask=as_image((labels > 0).to(torch.uint8), scan.header),
        classes=as_image(labels, scan.header),
        probability=as_image(either_lesion(scan.evidence), scan.header),
        lesions=pd.DataFrame(scan.tables["lesions"], columns=columns),
        volumes=scan.tables["volumes"][0],
        warnings=tuple(scan.warnings),
    )
