"""The arithmetic of attention: plain PyTorch that runs anywhere, cut into steps whose place other versions can take.

A step is a plain function under `@step` (see `kernels.dispatch`). `clustered` composes the steps of clustered attention,
`lsh` is Reformer's, `reference` says in float64 and with whole matrices what all of them must compute.
"""
