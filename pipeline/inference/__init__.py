"""Segment a folder of scans: masks, tables and pages.

In the order of a scan:

    candidates.py      which files of a folder are scans
    dicom.py           which images of DICOM series are scans
    scans.py           scans as items; their prediction one by one
    new_scans.py       the command `inference`: skip, segment, gather
    measuring.py       decision, numbers and warnings of a scan
    outputs.py         list of everything that is written; start here to add an output
    derivatives.py     images of a scan with their sidecars
    results.py         the data set of results: which scans are done
    gathering.py       tables and pages of all scans
    table_columns.py   columns of all tables
    lesion_table.py    numbers of lesions
    registrations.py   registrations to MNI space, stored
    segmenter.py       segmenting from Python, with results in memory
    scan_pages.py      pages to look at
    result_names.py    BIDS names of results
    bids_sources.py    BIDS URIs of scans
    provenance.py      which scan a result was made from
"""

from strokelesion.pipeline.inference.segmenter import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter"]
