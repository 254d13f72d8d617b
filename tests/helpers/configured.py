"""The configuration of a bundle as one of its commands reads it: options checked, defaults decided."""

from checkout import BUNDLES
from monai.bundle import create_workflow


def configured(bundle, command="training", **options):
    """Return the parser of a bundle's configuration after its `initialize`.

    Args:
        bundle: name of the bundle file.
        command: command that the options are for.
        options: options, and sections of the bundle that are replaced.
    """
    config_file = str(BUNDLES / f"{bundle}.json")
    return create_workflow(config_file=config_file, workflow_type="train", run_id=command, logging_file=False, **options).parser
