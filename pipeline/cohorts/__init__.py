"""From a folder to records of scans and their division into parts."""
