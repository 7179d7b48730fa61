"""Published models that BiGEL is compared with, one file each, behind one interface.

One more: a file here, its settings in ``bigel/config/rivals.py``, its line in
``bigel/compare/contestants.py``, what is searched in ``bigel/tune/spaces.py``.
"""
