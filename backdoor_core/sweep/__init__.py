"""A grid of studies: its cells, what their seeds say together, and its page."""
