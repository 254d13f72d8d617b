"""What a training needs beside the network: slices, their order, checkpoints, curves."""
