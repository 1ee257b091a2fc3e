"""Whatever comes from outside, made up and made wrong: nothing raises what nobody expects, hangs or is lost.

``make fuzz`` gives each target ten minutes, ``make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS="cli store"`` those a
minute each. ``make test`` gives each a few examples (``test_fuzz.py``). What was found is mended, and is an
example of its target from then on.
"""
