"""`python -m backdoor_core`."""

from backdoor_core.cli import main

main()
