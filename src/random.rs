//! Random and quasi-random numbers: keyed streams, scrambled Sobol points, Latin hypercubes. Nothing here reads a clock.
