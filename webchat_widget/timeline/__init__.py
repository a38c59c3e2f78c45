"""Frames folded into entities, the rule that merges them, and the stores that keep them."""
