"""Ways to do the same work, kapp's and others': each module is one side of a duel (see benchmarks/turns.py).

Run alone, one does a turn, answers with a line of JSON, and does another with each line that it is given.
"""
