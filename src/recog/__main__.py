"""`python -m recog`."""

from recog.cli import main

if __name__ == "__main__":
    main()
