"""The same arithmetic as Triton kernels. Imported only when it is chosen, see `kernels.dispatch`.

`launch` starts kernels (or records what would be started), `common` holds what kernels share. Everything else is one idea
per file: kernels, and the function that launches them.
"""
