"""A bench for backdoor attacks on clinical prediction models, and for catching them."""
