"""Data sets: folders in, tables and pages out. Knows transforms, never layers: a network is named in bundles only."""
