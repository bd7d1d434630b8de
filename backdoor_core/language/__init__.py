"""A language model of clinical notes: notes on disk, tokens, fine-tuning by recipe, and what it leaks of its members."""
