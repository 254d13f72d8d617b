"""A second generator of synthetic scans, for validation only: it shares neither contrast, lesions nor scanner with the first.

From the anatomy to the scan:

    scan_options.py         properties of a scan, drawn from its seed
    substances.py           muscle, fat, spinal cord and dura
    neck.py                 neck and shoulders below the label map
    atrophy.py              wide ventricles and sulci
    relaxation.py           T1 and proton density of tissues, signal equations
    tissue_mixture.py       signal of tissues and of old white-matter disease
    infarct_kinds.py        signal of infarcts
    supersampling.py        partial volume
    signal_acquisition.py   coils, motion, resolution, noise, slices
    shifted_scan.py         the transform that does all of this
"""

from strokelesion.transforms.shifted.scan_options import ScanOptions, draw_scan_options
from strokelesion.transforms.shifted.shifted_scan import RandShiftedScand
