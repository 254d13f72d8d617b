"""The project's bundles, as its commands read them."""

from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from strokelesion.pipeline.options.settings import options_of
from strokelesion.pipeline.options.workflow import bundle_root


def configured(bundle: str, command: str, **options: Any) -> ConfigParser:
    """Return the configuration of a bundle as a command reads it: options checked, defaults decided."""
    workflow = ConfigWorkflow(f"{bundle_root()}/{bundle}.json", run_id=command, logging_file=False, **options)
    workflow.initialize()
    return workflow.parser


def read_bundle(bundle: str, folder: Path, command: str = "training", **options: Any) -> ConfigParser:
    """Return the configuration of a bundle with the material of this benchmark in a folder, and options."""
    where = {"dataset_dir": "cohort/ATLAS_R1.1", "run_dir": "run", "cache_dir": "slices", "output_dir": "results"}
    where.pop("output_dir" if command == "training" else "run_dir")
    here = {name: str(folder / path) for name, path in where.items() if name in options_of(command)}
    return configured(bundle, command, **{**here, "device": "cpu", **options})


def keep_seeding(config: ConfigParser) -> ConfigParser:
    """Return the configuration of a training with only the handler that seeds each epoch: nothing happens between epochs."""
    config["train"]["handlers"] = [one for one in config["train"]["handlers"] if one["_target_"].endswith("EpochSeeds")]
    config.parse()
    return config
