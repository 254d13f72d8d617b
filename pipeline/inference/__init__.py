"""Segment a folder of scans: masks, tables and pages."""
