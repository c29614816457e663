"""The front door: what `import nnunet_cascade` offers to Python programs."""
