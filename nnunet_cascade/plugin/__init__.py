"""What nnU-Net imports when it looks for a trainer: every module here, so there is one."""
