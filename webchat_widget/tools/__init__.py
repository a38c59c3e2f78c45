"""Tools: functions that a model may ask for, and the loop that runs them."""
