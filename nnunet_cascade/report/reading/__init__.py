"""What a folder of results tells, whatever its state."""
