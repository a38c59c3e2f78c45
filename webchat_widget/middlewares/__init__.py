"""What stands between a run and its model; a file for each middleware, and `base` for what they promise."""
