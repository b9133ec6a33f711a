"""`python -m criadero`."""

from criadero.launcher import main

main()
