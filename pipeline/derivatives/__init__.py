"""Write what is known of scans as BIDS derivatives.

outputs.py           list of everything that is written; start here to add an output
scan_images.py       masks, maps and probabilities of a scan, with their sidecars
fmriprep_overlay.py  lesion masks as fMRIPrep reads them
dicom_seg.py         DICOM segmentations
scan_pages.py        pages to look at
table_columns.py     columns of all tables
gathering.py         tables and pages of all scans
group_maps.py        maps and figures of all scans
result_names.py      BIDS names of results
bids_sources.py      BIDS URIs of scans
provenance.py        which scan a result was made from
"""
