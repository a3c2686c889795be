"""Pages that need nothing from outside: style, script and data inside, readable by light and in the dark."""
