"""What each picture looks like: a module per chart, from named data to a Vega-Lite specification.

In a browser the page gives it the data, for PNG and SVG `picture` does.
"""
