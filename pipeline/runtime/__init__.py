"""Tools for all parts of the pipeline: errors, atomic file writing, names of derived files, several processes, locks."""
