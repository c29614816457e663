"""Loss functions of stage 2."""
