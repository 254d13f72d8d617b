"""Command `doctor`: list the issues of a data set before training, each with severity and advice."""
