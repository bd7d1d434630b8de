"""A language model of clinical notes: notes on disk, tokens, training by recipe, and what leaks."""
