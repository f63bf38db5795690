"""The inside of a network, for teaching: `python -m hwr.inspect RUN` looks into a trained one, and
`python -m hwr.inspect --plain-vs-residual` trains networks with and without shortcuts.

`activations`, `shortcuts`, `taps`, `statistics` and `updates` measure one thing each, `inside`
measures all of them on a run, `figures` draws them (matplotlib) and `page` writes them down.
"""
