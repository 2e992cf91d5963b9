"""The version of both packages."""

__version__ = "0.4.0"
