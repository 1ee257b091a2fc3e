"""Flower's configuration file: ``celery -A workers flower --conf=workers/flowerconfig.py``."""

from workers import flower

flower.install()
