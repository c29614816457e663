"""The tables of the paper as experiments on a data set."""
