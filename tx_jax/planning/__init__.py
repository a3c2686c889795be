"""Plans: the memory and time that a training would take, from compiling it."""
