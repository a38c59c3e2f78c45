"""Events into SEM frames, and frames into bytes. Pure: no clock, no ids, no I/O."""
