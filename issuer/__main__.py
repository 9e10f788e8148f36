"""`prefca`, also as `python -m issuer`."""

from issuer.cli.root import main

if __name__ == "__main__":
    main()
