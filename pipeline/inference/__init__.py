"""Segment new scans.

prediction.py  probabilities of scans, one by one
new_scans.py   the commands `inference` and `group`: skip, segment, gather
results.py     the data set of results: which scans are done
segmenter.py   segmenting from Python, with results in memory
"""

from strokelesion.pipeline.inference.segmenter import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter"]
