"""nnU-Net trainers whose length, seed, dropout and loss are read from the plans."""
