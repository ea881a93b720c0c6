"""The extension for notebooks and plain IPython."""
