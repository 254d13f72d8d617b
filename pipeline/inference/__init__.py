"""From a folder of scans to masks, tables and pages."""
