"""Searching for settings: what is searched, what to try next, who trains it."""
