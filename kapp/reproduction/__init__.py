"""The rows of the papers' tables as runs: which, in which order, and at what cost."""
