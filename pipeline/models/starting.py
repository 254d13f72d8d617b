"""The start of a training: random weights, a run to resume, or a trained model."""

import logging
from pathlib import Path

from strokelesion.networks import UserError
from strokelesion.pipeline.models.description import Description, require_same
from strokelesion.pipeline.models.model_files import Model, read_model

LAST = "last.pt"
logger = logging.getLogger(__name__)


def resumed_run(folder: str | Path, resume: bool, description: Description) -> Model | None:
    """Return the last checkpoint of the run in a folder; None if a new run begins.

    Args:
        folder: Folder of the run.
        resume: Whether to continue a run in this folder.
        description: Description of the model of this training.

    Raises:
        UserError: The folder holds a run and `resume` is false, or the run has other settings.
    """
    last = Path(folder) / LAST
    if not last.exists():
        if resume:
            logger.info("nothing to resume in %s: starting at epoch 1", folder)
        return None
    if not resume:
        raise UserError(
            f"{folder} holds a run already; expected a new folder. Go on with --resume true, choose another --run_dir, or "
            "remove it."
        )
    start = read_model(last)
    require_same(last, start.description, description)
    return start


def initial_model(init: str | Path, description: Description) -> Model:
    """Return the model that a new run starts from.

    Raises:
        UserError: Its network has another class.
    """
    model = read_model(init)
    if (name := model.description.network_name) != description.network_name:
        raise UserError(
            f"{init} is a {name}; expected a {description.network_name}. Use the bundle file of {name}, or another --init."
        )
    return model
