"""A run on Ray Data: one replica of the model for each GPU or share of CPUs, on one machine or many.

cluster.py   connects, or starts a cluster that ends with the run
shares.py    how many replicas, and what each gets
pool.py      in the program: items out, records in
replica.py   in the cluster: a loaded model that answers blocks of items
ledger.py    in the cluster: what every replica must know of the others
"""
