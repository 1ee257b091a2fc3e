"""Doors into other frameworks; each module needs its extra, and nothing here is imported by the layer."""
