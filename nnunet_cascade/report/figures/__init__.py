"""One figure a case, after Fig. 2 of the paper."""
