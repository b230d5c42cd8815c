"""The findings of the four papers, one a module."""
