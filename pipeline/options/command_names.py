"""The commands of the bundle files, and groups of commands that take the same options."""

TRAINING, DOCTOR, EVALUATING, INFERENCE, RELEASE = "training", "doctor", "evaluating", "inference", "release"
EXPORT, SYNTHESIS, EXPERIMENTS, REPORTING, SCORING = "export", "synthesis", "experiments", "reporting", "scoring"
PACKAGE = "package"
# Writes what `inference` writes about all scans.
GROUP = "group"
COMMANDS = (
    *(TRAINING, EVALUATING, INFERENCE, GROUP, RELEASE, EXPORT, PACKAGE),
    *(DOCTOR, SYNTHESIS, EXPERIMENTS, REPORTING, SCORING),
)
# Commands that apply a trained model; the model decides some of their options, see `models/description.py`.
PREDICTING = (EVALUATING, INFERENCE, RELEASE)
APPLYING = (*PREDICTING, EXPORT, PACKAGE, GROUP)
# Commands that may run in several processes together.
SHARED_COMMANDS = (TRAINING, INFERENCE)
# `group` takes the options that decide the results that it describes.
SEGMENTING = (INFERENCE, GROUP)
LEARNING = (TRAINING, DOCTOR)
LABELED = (TRAINING, EVALUATING, RELEASE, DOCTOR, EXPERIMENTS, SCORING)
COMPUTING = (TRAINING, *PREDICTING, SYNTHESIS)
