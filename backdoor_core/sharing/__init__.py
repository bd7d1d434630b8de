"""Results to pass on, without patients."""
