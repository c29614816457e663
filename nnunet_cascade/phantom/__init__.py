"""A synthetic thorax: a phantom drawn from a seed, never a patient and never presented as one."""
