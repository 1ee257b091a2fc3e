"""Measurements. Each runs the layer and its alternative in one go, because machines differ and are shared.

A benchmark is a module named in `bench.__main__`, whose `main` returns its findings (`bench.findings`).
"""
