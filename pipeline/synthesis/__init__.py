"""Data sets of synthetic scans: records and cohorts, made from heads and lesion masks."""
