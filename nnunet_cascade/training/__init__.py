"""From an nnU-Net dataset to a trained cascade."""
