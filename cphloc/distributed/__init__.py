"""Distributed computation: processes of a training, sharded parameters, and jobs on a cluster."""
