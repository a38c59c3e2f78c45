"""Harnesses that hurt the chat at random, and first prove that they would notice: `python -m tests.soak`."""
