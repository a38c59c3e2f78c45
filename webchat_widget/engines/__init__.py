"""Engines: a turn in, events out. One provider, one file; each driver is imported inside."""
