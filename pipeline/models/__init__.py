"""Trained models on disk: the network, the preparation of scans for it, and the rule that turns predictions into masks."""
