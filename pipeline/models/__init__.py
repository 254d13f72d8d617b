"""What a trained model on disk is: its network, how scans are prepared for it, and how its predictions become masks."""
