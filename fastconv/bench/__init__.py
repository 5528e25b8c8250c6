"""Measurement: workloads, peers, timing, report. Used by ``fastconv bench`` and by ``benchmarks/``."""
