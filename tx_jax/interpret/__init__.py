"""What a trained model computes inside: its activations read and written by name, and the tools that stand on that.

`sites` names the activations, `capture` reads and writes them, `texts` makes a model's rows; each other module is a
method of the literature, named in its docstring. `experiments.interpret` has a word for each.
"""
