"""Fixtures that many tests share: miniature releases on disk, and one anatomy stored in many orientations."""

import json
from collections.abc import Callable, Generator
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from atlas import anatomy, grid, save_nifti, write_release
from checkout import ROOT
from hypothesis import settings

from strokelesion.pipeline.options.bundle_files import options_taken
from strokelesion.pipeline.synthesis.phantom import write_phantom

# Files are brought to the disk, which takes as long as the disk likes.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
# The tests' networks are small: more threads would only wait for each other.
torch.set_num_threads(1)

QUICK = {"spacing_mm": 4, "batch_size": 8, "intensities": "tissue", "device": "cpu"}
ORIENTATIONS = {"RAS": 0, "LAS": 0, "LPS": 0, "PSR": 0, "PSL": 0, "oblique": 20}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the folders `journeys` and `hostile` with the name of their tier, except those marked as slow."""
    tiers = {"journeys": pytest.mark.journey, "hostile": pytest.mark.hostile}
    for item in items:
        if (tier := tiers.get(item.path.parent.name)) and not item.get_closest_marker("slow"):
            item.add_marker(tier)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what is no Unicode in the captured output: some tests have such file names, and reports of workers are text."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture
def release_dir(tmp_path: Path) -> Callable[..., Path]:
    """Factory of miniature releases: `release_dir("R2.0", subjects=4)` writes one and returns its folder.

    Takes the arguments of `atlas.write_release` after the folder. Several releases of one test lie side by side, so
    `release_dir("R1.1").parent` holds them all.
    """
    return lambda release="R1.1", **options: write_release(tmp_path / "data", release, **options)


@pytest.fixture(scope="session")
def oriented(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str | list[str]]]:
    """One anatomy stored as RAS, LAS, LPS, PSR, PSL and oblique (LPS, turned by 20 degrees): items by orientation.

    Each item has `image` (float32), `main_mask` (uint8) and `sub_masks` (one file), as a record has. Voxels are
    8 x 7 x 9 mm along right, anterior, superior; all but the oblique one have their voxel centers at the same places,
    so that after reorientation to RAS they are equal voxel by voxel. The files are shared: read them only.
    """
    folder = tmp_path_factory.mktemp("oriented")
    items: dict[str, dict[str, str | list[str]]] = {}
    for name, tilt_degrees in ORIENTATIONS.items():
        axcodes = "LPS" if tilt_degrees else name
        shape, affine = grid(axcodes, (23, 29, 19), (8.0, 7.0, 9.0), tilt_degrees)
        t1, main, sub = anatomy(shape, affine)
        image = save_nifti(folder / name / "T1w.nii.gz", t1, affine)
        main_mask = save_nifti(folder / name / "main_mask.nii.gz", main.astype(np.uint8), affine)
        sub_mask = save_nifti(folder / name / "sub_mask.nii.gz", sub.astype(np.uint8), affine)
        items[name] = {"image": str(image), "main_mask": str(main_mask), "sub_masks": [str(sub_mask)]}
    return items


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom cohort of 8 subjects at 4 mm."""
    return write_phantom(tmp_path_factory.mktemp("phantom"), subjects=8, sites=2, voxel_mm=4.0)


@pytest.fixture
def run_command(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Run a command of a bundle in this process, from an empty folder: `run_command("training", "resunet", epochs=1)`.

    Unless told otherwise at 4 mm, without a brain network (not every miniature has a skull), and with one slice store for all
    tests. Of these options, each command gets those that it takes.
    """
    (tmp_path / "elsewhere").mkdir()
    usual = {**QUICK, "cache_dir": str(tmp_path_factory.getbasetemp() / "slices")}
    monkeypatch.chdir(tmp_path / "elsewhere")

    def run(command: str, bundle: str, **options: object) -> None:
        config_file = ROOT / f"bundles/{bundle}.json"
        taken = options_taken(command, json.loads(config_file.read_text()))
        quick = {name: value for name, value in usual.items() if name in taken}
        monai.bundle.run(run_id=command, config_file=str(config_file), logging_file=False, **{**quick, **options})

    return run
