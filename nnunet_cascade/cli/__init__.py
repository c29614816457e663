"""One module per command; nothing here but arguments and calls."""
