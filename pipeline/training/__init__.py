"""Training around the network: slices, their order, checkpoints and curves."""
