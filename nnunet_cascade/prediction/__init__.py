"""The runner: one case, many cases, bundles, the stage-2 training set and the training chain."""
