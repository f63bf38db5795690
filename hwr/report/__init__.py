"""Reports on trained runs: `python -m hwr.report RUN` writes numbers, tables and pictures.

`document` is what a page is made of, `measure` the numbers, `figures` the pictures (matplotlib),
`features` what the layers look for, `page` puts one run's report together.
"""
