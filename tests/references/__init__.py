"""Each system of the examples as a loop over tokens, written from the equations: nothing here knows
the language or its compiler.
"""
