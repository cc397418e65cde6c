"""`python -m tintype.cli` is `tintype`."""

from tintype.cli.app import main

if __name__ == "__main__":
    main()
