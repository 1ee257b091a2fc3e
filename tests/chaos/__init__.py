"""``make chaos``: a real fleet under load while faults strike at random; an auditor counts it all.

plan.py      which fault strikes when, for how long: drawn from a seed, the same for the same seed
proxy.py     a line that can be cut and slowed down
stage.py     the servers, three workers of four processes, beat, the simulator; how each fault strikes
load.py      what is asked of them meanwhile: scheduled fetches, refreshes, readers, a flood
audit.py     what must hold afterwards, by records kept outside the system
__main__.py  plays one plan on each broker and prints the accounts
"""
