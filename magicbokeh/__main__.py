"""`python -m magicbokeh`, for launchers that start modules: accelerate launch -m magicbokeh train ..."""

from magicbokeh.cli import main

if __name__ == "__main__":
    main()
