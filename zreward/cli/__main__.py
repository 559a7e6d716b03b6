"""`python -m zreward.cli`."""

from zreward.cli.main import main

main()
