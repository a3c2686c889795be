"""What a training would take, from compiling it."""
