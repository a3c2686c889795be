"""Attention: one function with several implementations, and the layer around it.

`layer` computes queries, keys and values; `choice` has the table of implementations and chooses one by the `Case`;
`xla` runs everywhere and has every feature; `cudnn` is for NVIDIA GPUs, `splash` and `rows` for TPUs.
"""
