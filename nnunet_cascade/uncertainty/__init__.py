"""Stochastic forward passes and the moments of their predictions."""
