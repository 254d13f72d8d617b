"""Every option once, and how options and models get into a running bundle."""
