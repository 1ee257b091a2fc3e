"""Measurements. Each runs the layer and its alternative in one go, because machines differ and are shared."""
