"""The maths and the layers that every model is built from."""
