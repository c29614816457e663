"""The score of a candidate: how likely it is a tumor, by what the rules measured and what stage 2 saw, and why."""
