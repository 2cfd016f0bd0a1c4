"""Sweeps: one notebook for many sets of parameters.

* ``sets``: grids and tables of parameters, validated before anything starts
* ``cluster``: the Dask workers, on this machine or anywhere
* ``runs``: the folder of a sweep, and the loop that fills it
* ``tables``: what came out, as Parquet and CSV
* ``report``: the same as figures on a page
"""
