"""What a model leaks of the records it was trained on: audits run, judged, and turned into a bound on epsilon."""
