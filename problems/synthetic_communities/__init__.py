"""A fleet of communities drawn at the buses of any feeder."""
