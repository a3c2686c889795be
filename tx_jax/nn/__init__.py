"""The functions and layers that every model is built from."""
