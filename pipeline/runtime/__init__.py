"""Tools for all parts of the pipeline: errors, atomic file writing, several processes, locks."""
