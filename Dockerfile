# One image for every program of the system: worker, beat, Flower, simulator and command line.
# What is started, with which limits and checks, stands in docker-compose.yml.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt ./
COPY workers/pyproject.toml workers/
# What we depend on first, in a layer of its own: our code changes more often.
RUN python -m venv --without-pip /opt/venv \
 && python -c 'import tomllib; library, app = (tomllib.load(open(f, "rb"))["project"] for f in ("pyproject.toml", "workers/pyproject.toml")); extras = library["optional-dependencies"]; print(*library["dependencies"], *extras["flower"], *extras["hiredis"], *extras["prometheus"], *(one for one in app["dependencies"] + app["optional-dependencies"]["calendars"] if not one.startswith(library["name"])), sep="\n")' >requirements.txt \
 && pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -c constraints.txt hatchling \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY resilience resilience
RUN pip wheel --quiet --no-build-isolation --no-deps --wheel-dir /wheels . ./workers \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --no-deps /wheels/*.whl
COPY tasks /app/tasks
COPY workers /app/workers
COPY schedule.toml circuits.toml workers/flowerconfig.py /app/
# For whoever it runs as, and without the local run.
RUN chmod -R a+rX /app \
 && rm /app/workers/run.py /app/workers/live.py /app/workers/embedded.py

FROM python:3.13-slim
# Nothing but STATE_DIR and /tmp is ever written to, so the root file system can be read-only.
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin celery \
 && install --directory --owner=celery /var/lib/market-data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
# Flower reads the flowerconfig.py of the folder it is started in.
COPY --from=build /app ./
# Celery looks its commands up before it looks in the folder it is started in.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIR=/var/lib/market-data
USER 10001
CMD ["celery", "-A", "workers", "worker", "-l", "INFO", "-n", "all@%h", "--without-mingle", "--without-gossip"]
