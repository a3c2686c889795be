"""What a trained model reaches on data, and what it says of new examples."""
