"""Flower's configuration file: ``celery -A workers flower --conf=workers/flowerconfig.py``."""

import workers.celery  # noqa: F401 - configures the store, for who started Flower for another app
from resilience import flower
from workers.settings import settings

flower.install(settings().circuits_without_login)
