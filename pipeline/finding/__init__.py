"""Find the scans that a user names, and say why other images are none.

candidates.py   which files of a folder are scans
companions.py   images beside a scan that belong to it
dicom.py        which images of DICOM series are scans
acquisition.py  which images are certainly no T1, by names and metadata
scans.py        scans as items of a data set
suffixes.py     file names of images
"""
