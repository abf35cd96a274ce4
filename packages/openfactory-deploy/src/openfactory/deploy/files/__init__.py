"""The files of apps: YAML with lines, variables, and the schema of an app.

`document` reads a file, `variables` replaces variables in its texts, `schema` has the keys of an app, and `values` the
conversion of each value with the sentences for wrong ones.
"""
