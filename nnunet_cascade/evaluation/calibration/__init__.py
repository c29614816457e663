"""Whether probabilities keep what they promise, and whether uncertainty points at errors: docs/calibration.md."""
