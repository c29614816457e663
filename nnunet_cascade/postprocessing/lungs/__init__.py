"""Lung masks, from thresholds, from the lungmask networks or from files."""
