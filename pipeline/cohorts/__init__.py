"""Read the scans of a folder as records and split them into parts."""
