"""The project's bundles, as its verbs read them."""

from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser


def read_bundle(name: str, folder: Path, **knobs: Any) -> ConfigParser:
    """Return a bundle's configuration with the material of this benchmark, and knobs, as on the command line."""
    config = ConfigParser()
    config.read_config(f"bundles/{name}.json")
    where = {"dataset_dir": "cohort/ATLAS_R1.1", "run_dir": "run", "cache_dir": "slices", "output_dir": "results"}
    here = {knob: str(folder / name) for knob, name in where.items()}
    for knob, value in {**here, "device": "cpu", **knobs}.items():
        config[knob] = value
    config.parse()
    return config
