"""Every family against its published implementation, with the same weights."""
