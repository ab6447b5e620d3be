"""Rounds of clients on machines of their own, over Flower: an extra.

The recipe `federated` with its config and its seeds, where each client is a
SuperNode that holds its own examples and the server sees none of them:

    scripts/flower --config=configs/feal.py:heart --workdir=runs/flower

`pip install "jaxedge[flower]"`; nothing else of jaxedge imports this room.
"""
