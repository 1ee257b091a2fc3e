"""Everything that can happen in a small world, one after the other: the real scripts, model-checked.

    make model                             every world for a minute, every mutant; prints both tables
    make model MODEL_ARGS="lot paced --seconds 600"    only these worlds, for longer
    make test                              a small part of it, in some seconds

A test plays the histories somebody has thought of, a random one those that chance comes upon. Here all are
played, breadth first: every order in which a broker, two workers, two releasers, an operator, a provider and
the clock can take their steps, with a worker lost or a message delivered twice between any two of them. What
is not right is printed with the shortest way there.

    embedded.py     the scripts of resilience/lua in an embedded Lua 5.1, with the commands they use. A server
                    would take a hundred times as long; test_fidelity.py compares the two, reply by reply.
    world.py        the world around them. RedisStore and ParkingLot, the decisions of task.py and
                    coalescing.py are the real ones; what Celery and the broker do is modelled.
    canonical.py    when two states are one
    invariants.py   what holds in every state
    search.py       the search, and the way home from every state: with a healthy provider and no more faults
                    the circuit closes and every task ends
    worlds.py       which worlds, and who is in them
    mutants.toml    for each invariant something it rests on, which is taken out and must be missed

Time moves to the next moment at which something falls due, and in some worlds by a second between. The
state PARKED is written in two acts, as the layer does: whether there is a final one is looked up first. Where
the search of a world has come to its end there is no other state; else the table tells how deep it went.

Not modelled: several services for one task, refused keys, the store's loss (``tests/chaos`` plays that),
clocks that go back, views (``stores/views.py``), quotas and rates, and more than three tasks at once.
"""
