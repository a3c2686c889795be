"""Many processes as one run: how they find each other, watch each other, and stop."""
