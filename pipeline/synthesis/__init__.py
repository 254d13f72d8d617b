"""Composed scans as a data set: raw material in, heads and lesion masks; records and cohorts out."""
