"""What tests and benchmarks share: shapes, inputs, the oracle in NumPy, and the one table of
tolerances.
"""
