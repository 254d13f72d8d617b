"""Measure the lesions of one segmented scan; no file is written.

measuring.py      decision, numbers and warnings of a scan
lesion_table.py   numbers of lesions, and of an atlas's regions
roi_loads.py      lesion loads of ROIs
registrations.py  registrations to MNI space, stored
plausibility.py   whether the scan was a T1 of a whole head
"""
