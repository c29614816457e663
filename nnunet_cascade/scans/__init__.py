"""CTs to predict: where one is, and how it is found and read."""
